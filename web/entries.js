/** "Preload this workflow": the entries of preload.yaml for the loaders of the open graph, to be copied or added to the file. */

import { app } from "../../scripts/app.js";
import * as client from "./client.js";
import { button, copy, dress, make, put, write } from "./parts.js";
import { say } from "./words.js";

/** Opens the dialog. It tells by itself what went wrong. */
export async function showEntries() {
  const text = make("textarea", { class: "cp-yaml", readonly: true, rows: 3, spellcheck: "false" });
  const note = make("p", { class: "cp-fine", role: "status" });
  const title = make("h3", { id: "cp-entries-title" });
  const take = button("pi-copy", async () => {
    try {
      await copy(text.value);
      write(note, say("copied"));
    } catch (error) {
      text.select();
      write(note, say("notCopied"));
    }
  });
  /** @type {{prompt: Record<string, any>, tag: string} | null} */
  let shown = null;
  const addLines = async () => {
    if (!shown) return;
    dress(add, { label: say("action.add"), enabled: false });
    try {
      await client.entries(shown.prompt, shown.tag);
      write(note, say("entries.added"));
    } catch (error) {
      write(note, error instanceof client.RefusedError ? `${error.message} ${error.hint}` : String(error));
    }
  };
  const add = button("pi-plus", addLines, "cp-main");
  const close = button("pi-times", () => dialog.close());
  const dialog = make(
    "dialog",
    { class: "cp-panel cp-dialog", "aria-labelledby": "cp-entries-title" },
    title,
    text,
    note,
    make("div", { class: "cp-toolbar" }, add, take, close),
  );
  dialog.addEventListener("close", () => dialog.remove());
  dialog.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
    event.stopPropagation(); // ComfyUI's shortcuts are not meant
    if (event.key === "Escape") dialog.close(); // by itself it would, but ComfyUI takes that key for itself
  });
  write(title, say("entries.title"));
  write(note, say("asking"));
  dress(add, { label: say("action.add"), enabled: false });
  dress(take, { label: say("action.copy"), enabled: false });
  dress(close, { label: say("action.close") });
  put(text, "aria-label", say("entries.title"));
  document.body.append(dialog);
  dialog.showModal();
  try {
    const { output } = await app.graphToPrompt();
    const answer = await client.entries(output);
    text.value = answer.text;
    text.rows = Math.min(12, Math.max(3, answer.text.split("\n").length));
    shown = { prompt: output, tag: answer.tag };
    write(note, say(text.value.trim() ? "entries.help" : "entries.none"));
    dress(add, { label: say("action.add"), enabled: /^[^#\s]/m.test(answer.text) });
    dress(take, { label: say("action.copy"), enabled: text.value.trim() !== "" });
    take.focus();
  } catch (error) {
    const refused = error instanceof client.RefusedError;
    const why =
      refused && error.absent
        ? say("entries.absent")
        : refused
          ? `${error.message} ${error.hint}`
          : String(error);
    close.focus();
    text.hidden = true;
    write(note, why);
  }
}
