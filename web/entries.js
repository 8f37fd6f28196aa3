/** "Preload this workflow": the entries of preload.yaml for the loaders of the open graph, to be copied or added to the file. */

import { app } from "../../scripts/app.js";
import * as client from "./client.js";
import { button, copy, h, setAttribute, updateButton, write } from "./dom.js";
import { t } from "./i18n.js";

/** Opens the dialog. It shows what went wrong itself. */
export async function showEntries() {
  const text = h("textarea", { class: "cp-yaml", readonly: true, rows: 3, spellcheck: "false" });
  const note = h("p", { class: "cp-fine", role: "status" });
  const title = h("h3", { id: "cp-entries-title" });
  const take = button("pi-copy", async () => {
    try {
      await copy(text.value);
      write(note, t("copied"));
    } catch (error) {
      text.select();
      write(note, t("notCopied"));
    }
  });
  /** @type {{prompt: Record<string, any>, tag: string} | null} */
  let shown = null;
  const addLines = async () => {
    if (!shown) return;
    updateButton(add, { label: t("action.add"), enabled: false });
    try {
      await client.entries(shown.prompt, shown.tag);
      write(note, t("entries.added"));
    } catch (error) {
      write(note, error instanceof client.RefusedError ? `${error.message} ${error.hint}` : String(error));
    }
  };
  const add = button("pi-plus", addLines, "cp-main");
  const close = button("pi-times", () => dialog.close());
  const dialog = h(
    "dialog",
    { class: "cp-panel cp-dialog", "aria-labelledby": "cp-entries-title" },
    title,
    text,
    note,
    h("div", { class: "cp-toolbar" }, add, take, close),
  );
  dialog.addEventListener("close", () => dialog.remove());
  dialog.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
    event.stopPropagation(); // ComfyUI's shortcuts are not meant
    if (event.key === "Escape") dialog.close(); // by itself it would, but ComfyUI takes that key for itself
  });
  write(title, t("entries.title"));
  write(note, t("asking"));
  updateButton(add, { label: t("action.add"), enabled: false });
  updateButton(take, { label: t("action.copy"), enabled: false });
  updateButton(close, { label: t("action.close") });
  setAttribute(text, "aria-label", t("entries.title"));
  document.body.append(dialog);
  dialog.showModal();
  try {
    const { output } = await app.graphToPrompt();
    const answer = await client.entries(output);
    text.value = answer.text;
    text.rows = Math.min(12, Math.max(3, answer.text.split("\n").length));
    shown = { prompt: output, tag: answer.tag };
    write(note, t(text.value.trim() ? "entries.help" : "entries.none"));
    updateButton(add, { label: t("action.add"), enabled: /^[^#\s]/m.test(answer.text) });
    updateButton(take, { label: t("action.copy"), enabled: text.value.trim() !== "" });
    take.focus();
  } catch (error) {
    const refused = error instanceof client.RefusedError;
    const why =
      refused && error.absent
        ? t("entries.absent")
        : refused
          ? `${error.message} ${error.hint}`
          : String(error);
    close.focus();
    text.hidden = true;
    write(note, why);
  }
}
