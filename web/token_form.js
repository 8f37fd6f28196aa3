/** What the server said when it refused a command, and where to put the token that opens it. */

import { RefusedError, token } from "./client.js";
import { button, h, setAttribute, show, updateButton, write } from "./dom.js";
import { t } from "./i18n.js";

export class TokenForm {
  constructor() {
    this.message = h("p", { class: "cp-message" });
    this.hint = h("p", { class: "cp-hint" });
    this.field = tokenField();
    this.save = button("pi-key", () => this.#again());
    this.close = button("pi-times", () => this.forget(), "cp-small");
    this.form = h("form", { class: "cp-line" }, this.field, this.save);
    this.form.addEventListener("submit", (/** @type {Event} */ event) => {
      event.preventDefault();
      this.#again();
    });
    this.node = h(
      "div",
      { class: "cp-problem cp-refusal", role: "alert", hidden: true },
      h("div", { class: "cp-line" }, this.message, this.close),
      this.hint,
      this.form,
    );
    this.retry = () => {};
  }

  update() {
    setAttribute(this.field, "placeholder", t("token"));
    setAttribute(this.field, "aria-label", t("token"));
    updateButton(this.save, { label: t("action.send"), title: t("action.sendToken") });
    updateButton(this.close, { label: "", title: t("action.close") });
  }

  /** @param {Error} error @param {() => void} retry */
  refuse(error, retry) {
    const refused = error instanceof RefusedError;
    this.retry = retry;
    write(this.message, refused ? error.message : t("lost"));
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
  const field = h("input", {
    type: "password",
    class: "cp-token",
    autocomplete: "off",
    spellcheck: "false",
  });
  field.value = token.get();
  return field;
}
