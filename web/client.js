/** Requests to the plugin's routes, on the server that this page came from. */

import { api } from "../../scripts/api.js";

const TOKEN = "ComfyPreload.Token";
const TIMEOUT_MS = 10_000;

/** The server said no, or has no such route. */
export class RefusedError extends Error {
  /** @param {number} status @param {Partial<import("./types.js").Problem>} [problem] */
  constructor(status, problem = {}) {
    super(problem.message ?? `HTTP ${status}`);
    this.status = status;
    this.code = problem.code ?? "";
    this.hint = problem.hint ?? "";
  }

  /** The route is not there: another version of the plugin, or none. */
  get absent() {
    return (this.status === 404 && this.code !== "model_unknown") || this.status === 405;
  }
}

/** The token that commands are sent with. It stays in this browser: ComfyUI's own settings are files on the server. */
export const token = {
  get: () => localStorage.getItem(TOKEN) ?? "",
  /** @param {string} value */
  set: (value) => (value ? localStorage.setItem(TOKEN, value) : localStorage.removeItem(TOKEN)),
};

/** @returns {Promise<import("./types.js").Snapshot>} */
export async function snapshot() {
  return (await send("/preload", { cache: "no-store" })).json();
}

/**
 * @param {"reload" | "release" | "sleep" | "wake"} command
 * @param {string} [model]
 * @returns {Promise<import("./types.js").Job>}
 */
export async function order(command, model) {
  return (await post(`/preload/${command}`, model === undefined ? undefined : { model })).json();
}

/**
 * The entries of preload.yaml for the loaders of a graph that it does not list yet. With the tag of an earlier answer they are
 * written into the file.
 * @param {Record<string, any>} prompt in API format
 * @param {string} [tag]
 * @returns {Promise<{text: string, tag: string}>}
 */
export async function entries(prompt, tag) {
  const answer = await post("/preload/entries", { prompt }, tag ? { "If-Match": tag } : {});
  return { text: await answer.text(), tag: answer.headers.get("ETag") ?? "" };
}

/** @param {string} path @param {unknown} [content] @param {Record<string, string>} [more] */
function post(path, content, more = {}) {
  /** @type {Record<string, string>} */
  const headers = { ...more };
  if (token.get()) headers.Authorization = `Bearer ${token.get()}`;
  if (content === undefined) return send(path, { method: "POST", headers });
  headers["Content-Type"] = "application/json";
  return send(path, { method: "POST", headers, body: JSON.stringify(content) });
}

/** @param {string} path @param {RequestInit} init */
async function send(path, init) {
  const response = await api.fetchApi(path, { ...init, signal: AbortSignal.timeout(TIMEOUT_MS) });
  if (response.ok) return response;
  const body = await response.json().catch(() => ({}));
  throw new RefusedError(response.status, body?.error ?? {});
}
