/**
 * The shapes that pass between the files of this folder. `GET /preload` is described in full in docs/http.md.
 *
 * @typedef {{code: string, message: string, hint: string, line: number | null}} Problem
 *
 * @typedef {{
 *   name: string, kind: string, loader: string, required: boolean, state: string, device: string | null,
 *   bytes: number, bytes_on_device: number, hits: number, evictions: number, warm_for: string[], served: Served,
 *   last_miss: string | null, error: Problem | null,
 *   seconds: {read: number | null, load: number | null, move: number | null, warm: number | null},
 * }} Model
 *
 * @typedef {{name: string, required: boolean, state: string, seconds: number | null, profiles: Profile[], error: Problem | null}} WarmUp
 *
 * @typedef {{prompts: number, first: number | null, last: number | null, median: number | null}} Served
 *
 * @typedef {{name: string, served: Served, last_miss: string | null}} Workflow
 *
 * @typedef {{shape: string, state: string, ratio: number | null}} Profile
 *
 * @typedef {{workflow: string, node: string, loader: string, code: string, message: string, hint: string, line: number | null}} NotPreloaded
 *
 * @typedef {{
 *   id: string, command: string, model: string | null, reason: string, state: string, created: string,
 *   started: string | null, ended: string | null, loaded: string[], kept: string[], released: string[], error: Problem | null,
 * }} Job
 *
 * @typedef {{
 *   status: string, since: string, sleeping: boolean, queue_remaining: number,
 *   models: {total: number, ready: number, failed: number, not_preloaded: number, items: Model[]},
 *   progress: {fraction: number, bytes: number, bytes_total: number, seconds: number, eta: number | null},
 *   failing: Record<string, Problem>, fault: Problem | null, warmups: WarmUp[], workflows: Workflow[],
 *   not_preloaded: NotPreloaded[], jobs: Job[],
 *   host: {comfyui: string, python: string, torch: string, device: string} | null,
 * }} Snapshot
 *
 * @typedef {{snapshot: Snapshot | null, connected: boolean, absent: boolean}} View
 *   What is known now. `absent`: this server has no such plugin (any more).
 *
 * @typedef {(key: string, values?: Record<string, string | number>) => string} Translate
 */

export {};
