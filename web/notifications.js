/** Shows what happened while the page was open: a message when the preload ends, a sign on the tab's icon. */

import { app } from "../../scripts/app.js";
import { name, seconds, t } from "./i18n.js";
import { isBusy, isPreloading } from "./poller.js";

export const TAB = "comfy-preload";
export const MESSAGES = "ComfyPreload.Messages";

/** @type {Record<string, "success" | "warn" | "error">} */
const SEVERITY = { ready: "success", degraded: "warn", failed: "error" };
const LIFE = { success: 5_000, warn: 10_000, error: 20_000 };

/** @param {import("./types.js").View} view @param {import("./types.js").View} before */
export function notify(view, before) {
  badge(view);
  const now = view.snapshot;
  const then = before.snapshot;
  if (!now || !then || app.extensionManager.setting.get(MESSAGES) === false) return;
  if (isPreloading(then) && SEVERITY[now.status]) ended(now);
  const open = new Set(
    then.jobs.filter((job) => job.state === "queued" || job.state === "running").map((job) => job.id),
  );
  for (const job of now.jobs) {
    const known = open.has(job.id) || !then.jobs.some((one) => one.id === job.id);
    if (job.state === "failed" && known)
      message("error", t("jobFailed", { command: name("command", job.command) }), job.error?.message ?? "");
  }
}

/** @param {import("./types.js").Snapshot} now */
function ended(now) {
  const first = Object.entries(now.failing)[0];
  const counts = t("counts", { ready: now.models.ready, total: now.models.total });
  const detail = first
    ? `${first[0]}: ${first[1].message} ${first[1].hint}`
    : `${counts} · ${seconds(now.progress.seconds)}`;
  message(SEVERITY[now.status], `${t("title")}: ${name("status", now.status)}`, detail);
}

/** @param {"success" | "warn" | "error"} severity @param {string} summary @param {string} detail */
export function message(severity, summary, detail) {
  app.extensionManager.toast.add({ severity, summary, detail, life: LIFE[severity] });
}

/** @param {import("./types.js").View} view */
function badge({ snapshot, connected }) {
  // The tab as the interface holds it: what is written there is shown at once.
  const tab = app.extensionManager
    .getSidebarTabs?.()
    .find((/** @type {{id: string}} */ one) => one.id === TAB);
  if (!tab) return;
  const text = snapshot && connected ? sign(snapshot) : "";
  if (tab.iconBadge !== text) tab.iconBadge = text;
}

/** @param {import("./types.js").Snapshot} now */
function sign(now) {
  if (now.status === "failed" || now.status === "degraded") return "!";
  if (now.status === "sleeping") return "z";
  if (isPreloading(now)) return `${Math.floor(now.progress.fraction * 100)}`;
  return isBusy(now) ? "…" : "";
}
