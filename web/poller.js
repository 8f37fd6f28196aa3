/** Holds the last response of the server, and asks again: often while something happens, seldom otherwise, never for a hidden page. */

import { api } from "../../scripts/api.js";
import * as client from "./client.js";

/** The server may push this: something changed, ask. */
export const PUSHED = "comfy_preload.changed";

const PRELOADING = new Set(["starting", "loading", "warming"]);
const FAST = 700;
const OPEN = 4_000;
const CLOSED = 15_000;
const RETRY = [1_000, 2_000, 4_000, 8_000];

/** Commands come later. @param {import("./types.js").Snapshot | null} now */
export function isPreloading(now) {
  return now !== null && PRELOADING.has(now.status);
}

/**
 * Workflows that cannot be read and have no warm-up: named under `failing` only.
 * @param {import("./types.js").Snapshot} now
 */
export function failingWorkflows(now) {
  const listed = new Set(["preload.yaml", ...now.models.items.map((model) => model.name)]);
  for (const one of now.warmups) listed.add(one.name);
  return Object.entries(now.failing).filter(([subject]) => !listed.has(subject));
}

/** @param {import("./types.js").Snapshot} now */
export function isBusy(now) {
  return isPreloading(now) || now.jobs.some((job) => job.state === "queued" || job.state === "running");
}

export class Poller {
  /** @type {import("./types.js").View} */
  view = { snapshot: null, connected: true, absent: false };
  #listeners = new Set();
  #open = false;
  #failures = 0;
  #asking = false;
  #again = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;

  start() {
    document.addEventListener("visibilitychange", () => this.ask());
    api.addEventListener(PUSHED, () => this.ask());
    api.addEventListener("reconnected", () => this.ask());
    api.addEventListener("reconnecting", () => this.ask());
    this.ask();
  }

  /** @param {(view: import("./types.js").View, before: import("./types.js").View) => void} listener */
  listen(listener) {
    this.#listeners.add(listener);
  }

  /** The panel is open: ask more often. @param {boolean} value */
  set open(value) {
    this.#open = value;
    if (value) this.ask();
  }

  /** Ask now. Never twice at a time: what is asked meanwhile is asked once more afterwards. */
  async ask() {
    clearTimeout(this.#timer);
    if (document.hidden) return;
    if (this.#asking) {
      this.#again = true;
      return;
    }
    this.#asking = true;
    const before = this.view;
    try {
      this.view = { snapshot: await client.snapshot(), connected: true, absent: false };
      this.#failures = 0;
    } catch (error) {
      const absent = error instanceof client.RefusedError && error.absent;
      this.view = { snapshot: absent ? null : before.snapshot, connected: absent, absent };
      this.#failures += 1;
    }
    this.#asking = false;
    const pause = this.#again ? 50 : this.#pause();
    this.#again = false;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.ask(), pause);
    for (const listener of this.#listeners) listener(this.view, before);
  }

  #pause() {
    if (this.#failures) return RETRY[Math.min(this.#failures, RETRY.length) - 1];
    if (this.view.snapshot && isBusy(this.view.snapshot)) return FAST;
    return this.#open ? OPEN : CLOSED;
  }
}
