/** What the server said when it refused a command, and where to put the token that opens it. */

import { RefusedError, token } from "./client.js";
import { button, dress, make, put, show, write } from "./parts.js";
import { say } from "./words.js";

export class Access {
  constructor() {
    this.message = make("p", { class: "cp-message" });
    this.hint = make("p", { class: "cp-hint" });
    this.field = tokenField();
    this.save = button("pi-key", () => this.#again());
    this.close = button("pi-times", () => this.forget(), "cp-small");
    this.form = make("form", { class: "cp-line" }, this.field, this.save);
    this.form.addEventListener("submit", (/** @type {Event} */ event) => {
      event.preventDefault();
      this.#again();
    });
    this.node = make(
      "div",
      { class: "cp-trouble cp-refusal", role: "alert", hidden: true },
      make("div", { class: "cp-line" }, this.message, this.close),
      this.hint,
      this.form,
    );
    this.retry = () => {};
  }

  update() {
    put(this.field, "placeholder", say("token"));
    put(this.field, "aria-label", say("token"));
    dress(this.save, { label: say("action.send"), title: say("action.sendToken") });
    dress(this.close, { label: "", title: say("action.close") });
  }

  /** @param {Error} error @param {() => void} retry */
  refuse(error, retry) {
    const refused = error instanceof RefusedError;
    this.retry = retry;
    write(this.message, refused ? error.message : say("lost"));
    write(this.hint, refused ? error.hint : "");
    show(this.form, refused && error.status === 401);
    show(this.node, true);
  }

  forget() {
    show(this.node, false);
  }

  #again() {
    token.set(this.field.value.trim());
    this.forget();
    this.retry();
  }
}

/** A field for the token: never shown, never sent anywhere but with a command. */
export function tokenField() {
  const field = make("input", {
    type: "password",
    class: "cp-token",
    autocomplete: "off",
    spellcheck: "false",
  });
  field.value = token.get();
  return field;
}
