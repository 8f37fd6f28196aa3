/** What the panel says, in the language that ComfyUI is set to. The texts are in locales/, which ComfyUI serves at /i18n. */

import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";

const PATIENCE = 3_000;

/** @type {Record<string, any>} */
let texts = {};

/** @returns {string} en, zh, … */
export function language() {
  return app.extensionManager?.setting?.get("Comfy.Locale") || "en";
}

/** Fetches the texts; to be called again if it failed. The interface waits for it, so not for long. */
export async function loadTexts() {
  const response = await api.fetchApi("/i18n", { signal: AbortSignal.timeout(PATIENCE) });
  if (response.ok) texts = await response.json();
  return response.ok;
}

/** @type {import("./types.js").Translate} */
export function t(key, values = {}) {
  const own = text(["comfyPreload", ...key.split(".")]) ?? key.split(".").pop() ?? key;
  return own.replace(/\{(\w+)\}/g, (whole, name) => String(values[name] ?? whole));
}

/**
 * The word for a value that the server chose: a state, a kind. One that is not known is shown as it is.
 * @param {string} group @param {string} value
 */
export function name(group, value) {
  return text(["comfyPreload", group, value]) ?? value;
}

/**
 * The name of a command, setting or category, where ComfyUI looks for translations. The English ones stand under our own key:
 * front end 1.32 takes English texts for all languages as soon as it finds them in the usual place, and forgets the others.
 * @param {...string} path @returns {string}
 */
export function label(...path) {
  return text(path) ?? text(["comfyPreload", "labels", ...path]) ?? path[1];
}

/** @param {string[]} path @returns {string | undefined} in the language of the interface, else in English */
function text(path) {
  for (const locale of [language(), language().split("-")[0], "en"]) {
    let found = texts[locale];
    for (const part of path) found = found && Object.hasOwn(found, part) ? found[part] : undefined;
    if (typeof found === "string") return found;
  }
  return undefined;
}

/** @param {number} bytes */
export function size(bytes) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let power = 0;
  let left = bytes;
  while (left >= 999.5 && power < units.length - 1) {
    left /= 1000;
    power += 1;
  }
  return `${power && left < 99.95 ? left.toFixed(1) : left.toFixed(0)} ${units[power]}`;
}

/** @param {number} value */
export function seconds(value) {
  if (value >= 100) return t("seconds", { n: value.toFixed(0) });
  return t("seconds", { n: value >= 10 ? value.toFixed(1) : value.toFixed(2) });
}

/** @param {string} utc */
export function clock(utc) {
  return new Date(utc).toLocaleTimeString(language(), {
    hour: "2-digit",
    minute: "2-digit",
    second: "2-digit",
  });
}
