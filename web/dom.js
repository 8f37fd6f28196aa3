/** Small pieces of DOM. The panel is built once and then only patched, so that focus, selection and scroll stay where they are. */

/**
 * @param {string} tag
 * @param {Record<string, any>} [attributes] `onclick` and the like are listeners; `class` and others are attributes; false and null are left out
 * @param {...(Node | string)} children
 * @returns {any}
 */
export function h(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else setAttribute(node, name, value);
  }
  node.append(...children);
  return node;
}

/** @param {Element} node @param {string} name @param {string | number | boolean | null} value */
export function setAttribute(node, name, value) {
  if (value === null || value === false) {
    if (node.hasAttribute(name)) node.removeAttribute(name);
    return;
  }
  const text = value === true ? "" : String(value);
  if (node.getAttribute(name) !== text) node.setAttribute(name, text);
}

/** @param {Element} node @param {string} text */
export function write(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** @param {HTMLElement} node @param {boolean} visible */
export function show(node, visible) {
  if (node.hidden === visible) node.hidden = !visible;
}

/**
 * A button that says what it does to the eye and to a screen reader. `aria-disabled` instead of `disabled`: it keeps the focus.
 * @param {string} icon
 * @param {(event: Event) => void} act
 * @param {string} [className]
 */
export function button(icon, act, className = "") {
  const label = h("span", { class: "cp-label" });
  const node = h(
    "button",
    { type: "button", class: `cp-button ${className}` },
    h("i", { class: `pi ${icon}`, "aria-hidden": "true" }),
    label,
  );
  node.addEventListener("click", (/** @type {Event} */ event) => {
    if (node.getAttribute("aria-disabled") !== "true") act(event);
  });
  return node;
}

/** @param {Element} node @param {{label: string, title?: string, enabled?: boolean}} now */
export function updateButton(node, { label, title, enabled = true }) {
  const text = node.querySelector(".cp-label");
  if (text) write(text, label);
  setAttribute(node, "title", title ?? label);
  setAttribute(node, "aria-label", title ?? null);
  setAttribute(node, "aria-disabled", enabled ? null : "true");
}

/**
 * One element per item, kept by key; nothing is moved that stands right already.
 * @template T
 * @param {Element} parent
 * @param {T[]} items
 * @param {(item: T) => string} key
 * @param {(item: T) => HTMLElement & {update: (item: T) => void}} build
 */
export function each(parent, items, key, build) {
  const known = new Map([...parent.children].map((/** @type {any} */ node) => [node.dataset.key, node]));
  let place = parent.firstElementChild;
  for (const item of items) {
    const name = key(item);
    let node = known.get(name);
    known.delete(name);
    if (!node) {
      node = build(item);
      node.dataset.key = name;
    }
    node.update(item);
    if (node === place) place = place?.nextElementSibling ?? null;
    else parent.insertBefore(node, place);
  }
  for (const gone of known.values()) gone.remove();
}

/**
 * Puts text on the clipboard; where the page may not (plain http from another machine), by way of a selection.
 * @param {string} text
 */
export async function copy(text) {
  if (navigator.clipboard && window.isSecureContext) {
    await navigator.clipboard.writeText(text);
    return;
  }
  const area = h("textarea", { class: "cp-unseen", "aria-hidden": "true" });
  area.value = text;
  const before = /** @type {HTMLElement | null} */ (document.activeElement);
  (before?.closest("dialog") ?? document.body).append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  before?.focus();
  if (!done) throw new Error("the browser refused");
}
