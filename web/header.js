/** The top of the panel: status, how far loading is, and what a screen reader hears of it. */

import { h, setAttribute, show, write } from "./dom.js";
import { name, size, t } from "./i18n.js";
import { failingWorkflows, isPreloading } from "./poller.js";

/** Progress is read out in quarters, not with every answer. */
const STEP = 0.25;

export class Header {
  /** @param {() => void} toFirstFailed */
  constructor(toFirstFailed) {
    this.status = h("span", { class: "cp-status" });
    this.counts = h("span", { class: "cp-counts" });
    this.failed = h("button", { type: "button", class: "cp-link", onclick: toFirstFailed, hidden: true });
    this.fill = h("span", { class: "cp-fill" });
    this.bar = h(
      "div",
      { class: "cp-progress", role: "progressbar", "aria-valuemin": 0, "aria-valuemax": 100, hidden: true },
      this.fill,
    );
    this.how = h("div", { class: "cp-fine", hidden: true });
    this.note = h("p", { class: "cp-note", role: "status", hidden: true });
    this.spoken = h("div", { class: "cp-unseen", role: "status", "aria-live": "polite" });
    const line = h("div", { class: "cp-line" }, this.status, this.counts, this.failed);
    this.node = h("header", { class: "cp-header" }, line, this.bar, this.how, this.note, this.spoken);
    this.heard = { status: "", quarter: 0 };
  }

  /** @param {import("./types.js").View} view */
  update({ snapshot, connected, absent }) {
    const note = absent ? t("absent") : connected ? "" : t("lost");
    show(this.note, note !== "");
    write(this.note, note);
    setAttribute(this.node, "data-status", connected ? (snapshot?.status ?? "unknown") : "lost");
    if (!snapshot) {
      write(this.status, absent ? t("absentShort") : t("asking"));
      return;
    }
    const { progress, models } = snapshot;
    const busy = isPreloading(snapshot);
    write(this.status, name("status", snapshot.status));
    setAttribute(this.status, "title", name("statusHelp", snapshot.status));
    write(this.counts, models.total ? t("counts", { ready: models.ready, total: models.total }) : "");
    // every red box below: models, warm-ups, workflows, and the file
    const failed =
      models.failed +
      snapshot.warmups.filter((one) => one.state === "failed").length +
      failingWorkflows(snapshot).length +
      (snapshot.failing["preload.yaml"] ? 1 : 0);
    show(this.failed, failed > 0);
    write(this.failed, t("failed", { n: failed }));
    show(this.bar, busy);
    show(this.how, busy);
    const percent = Math.floor(progress.fraction * 100);
    setAttribute(this.bar, "aria-valuenow", percent);
    setAttribute(this.bar, "aria-label", t("progressLabel"));
    this.fill.style.width = `${progress.fraction * 100}%`;
    const parts = [
      `${percent} %`,
      progress.bytes_total ? t("bytes", { done: size(progress.bytes), all: size(progress.bytes_total) }) : "",
      t("seconds", { n: Math.floor(progress.seconds) }),
    ];
    if (progress.eta !== null && progress.eta > 0) parts.push(t("eta", { n: Math.ceil(progress.eta) }));
    const text = parts.filter(Boolean).join(" · ");
    write(this.how, text);
    setAttribute(this.bar, "aria-valuetext", text);
    this.#speak(snapshot, busy);
  }

  /** @param {import("./types.js").Snapshot} now @param {boolean} busy */
  #speak(now, busy) {
    const quarter = Math.floor(now.progress.fraction / STEP);
    if (now.status !== this.heard.status)
      this.announce([name("status", now.status), this.counts.textContent].join(", "));
    else if (busy && quarter > this.heard.quarter) this.announce(`${quarter * STEP * 100} %`);
    this.heard = { status: now.status, quarter };
  }

  /** @param {string} text */
  announce(text) {
    this.spoken.textContent = text;
  }
}
