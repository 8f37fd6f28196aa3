/** An error as the server reports it: what is wrong, what to do, and a button that copies all of it for a bug report. */

import { button, copy, h, show, updateButton, write } from "./dom.js";
import { t } from "./i18n.js";

export class ProblemBox {
  /**
   * @param {() => string} subject what it is about
   * @param {() => string} facts about the host
   */
  constructor(subject, facts) {
    this.subject = subject;
    this.facts = facts;
    /** @type {import("./types.js").Problem | null} */
    this.problem = null;
    this.message = h("p", { class: "cp-message" });
    this.hint = h("p", { class: "cp-hint" });
    this.code = h("code");
    this.copied = h("span", { role: "status", class: "cp-copied" });
    this.copy = button("pi-copy", () => this.#copy(), "cp-small");
    const foot = h("div", { class: "cp-line cp-fine" }, this.code, this.copied, this.copy);
    this.node = h("div", { class: "cp-problem", role: "group", hidden: true }, this.message, this.hint, foot);
  }

  /** @param {import("./types.js").Problem | null} problem */
  update(problem) {
    this.problem = problem;
    show(this.node, problem !== null);
    if (!problem) return;
    write(this.message, problem.message);
    write(this.hint, problem.hint);
    show(this.hint, Boolean(problem.hint));
    write(this.code, problem.line ? `${problem.code} · ${t("line", { n: problem.line })}` : problem.code);
    updateButton(this.copy, {
      label: t("action.copy"),
      title: t("action.copyDetails", { subject: this.subject() }),
    });
  }

  async #copy() {
    const { code, message, hint, line } = this.problem ?? { code: "", message: "", hint: "", line: null };
    const where = line ? `preload.yaml:${line}\n` : "";
    try {
      await copy(
        `Comfy Preload: ${this.subject()}\n[${code}] ${message}\n${hint}\n${where}${this.facts()}\n`,
      );
      write(this.copied, t("copied"));
    } catch (error) {
      write(this.copied, t("notCopied"));
    }
    setTimeout(() => write(this.copied, ""), 3000);
  }
}
