/** An error as the server tells it: what is wrong, what to do, and a button that copies all of it for a bug report. */

import { button, copy, dress, make, show, write } from "./parts.js";
import { say } from "./words.js";

export class Trouble {
  /**
   * @param {() => string} subject what it is about
   * @param {() => string} facts about the host
   */
  constructor(subject, facts) {
    this.subject = subject;
    this.facts = facts;
    /** @type {import("./types.js").Problem | null} */
    this.problem = null;
    this.message = make("p", { class: "cp-message" });
    this.hint = make("p", { class: "cp-hint" });
    this.code = make("code");
    this.copied = make("span", { role: "status", class: "cp-copied" });
    this.copy = button("pi-copy", () => this.#copy(), "cp-small");
    const foot = make("div", { class: "cp-line cp-fine" }, this.code, this.copied, this.copy);
    this.node = make(
      "div",
      { class: "cp-trouble", role: "group", hidden: true },
      this.message,
      this.hint,
      foot,
    );
  }

  /** @param {import("./types.js").Problem | null} problem */
  update(problem) {
    this.problem = problem;
    show(this.node, problem !== null);
    if (!problem) return;
    write(this.message, problem.message);
    write(this.hint, problem.hint);
    show(this.hint, Boolean(problem.hint));
    write(this.code, problem.line ? `${problem.code} · ${say("line", { n: problem.line })}` : problem.code);
    dress(this.copy, {
      label: say("action.copy"),
      title: say("action.copyDetails", { subject: this.subject() }),
    });
  }

  async #copy() {
    const { code, message, hint, line } = this.problem ?? { code: "", message: "", hint: "", line: null };
    const where = line ? `preload.yaml:${line}\n` : "";
    try {
      await copy(
        `Comfy Preload: ${this.subject()}\n[${code}] ${message}\n${hint}\n${where}${this.facts()}\n`,
      );
      write(this.copied, say("copied"));
    } catch (error) {
      write(this.copied, say("notCopied"));
    }
    setTimeout(() => write(this.copied, ""), 3000);
  }
}
