/** The sidebar panel. Built once, patched with every answer of the server. */

import { button, each, h, setAttribute, show, updateButton, write } from "./dom.js";
import { Header } from "./header.js";
import { language, name, t } from "./i18n.js";
import { rows } from "./models.js";
import { failingWorkflows, isBusy, isPreloading } from "./poller.js";
import { ProblemBox } from "./problem_box.js";
import { did, failingFacts, jobFacts, leftFacts, plainRow, warmupFacts, workflowFacts } from "./rows.js";
import { TokenForm } from "./token_form.js";

/** @typedef {"reload" | "release" | "sleep" | "wake"} Command */

/** From this number of models on there is a search field. */
const MANY = 8;

export class Panel {
  /**
   * @param {(command: Command, model?: string) => Promise<import("./types.js").Job>} order
   * @param {() => void} showEntries
   */
  constructor(order, showEntries) {
    this.header = new Header(() => this.#toFirstFailed());
    this.access = new TokenForm();
    this.reload = button("pi-refresh", () => this.#order("reload"));
    this.sleep = button("pi-moon", () => this.#order(this.view.snapshot?.sleeping ? "wake" : "sleep"));
    this.entries = button("pi-list", showEntries);
    this.tools = h("div", { class: "cp-toolbar", role: "group" }, this.reload, this.sleep, this.entries);
    this.result = h("p", { class: "cp-result", role: "status", hidden: true });
    /** The id of the last job that this page ordered. */
    this.ordered = "";
    this.file = new ProblemBox(
      () => "preload.yaml",
      () => this.facts(),
    );
    this.fault = new ProblemBox(
      () => t("fault"),
      () => this.facts(),
    );
    this.filter = h("input", {
      type: "search",
      class: "cp-filter",
      oninput: () => this.update(this.view),
    });
    this.empty = h("p", { class: "cp-empty" });
    this.models = section("cp-models", "ul");
    this.models.node.insertBefore(this.filter, this.models.list);
    this.workflows = section("cp-workflows", "ul");
    this.warmups = section("cp-warmups", "ul");
    this.served = section("cp-served", "ul");
    this.left = section("cp-left", "ul", { folded: true });
    this.jobs = section("cp-jobs", "ul");
    this.host = h("footer", { class: "cp-fine" });
    this.node = h(
      "section",
      { class: "cp-panel" },
      this.header.node,
      this.tools,
      this.result,
      this.access.node,
      this.fault.node,
      this.file.node,
      this.empty,
      this.models.node,
      this.workflows.node,
      this.warmups.node,
      this.served.node,
      this.left.node,
      this.jobs.node,
      this.host,
    );
    this.give = order;
    this.modelRow = rows(
      (command, model) => this.#order(command, model),
      () => this.facts(),
      () => isPreloading(this.view.snapshot),
    );
    this.plainRow = plainRow(() => this.facts());
    /** @type {import("./types.js").View} */
    this.view = { snapshot: null, connected: true, absent: false };
  }

  /** @param {import("./types.js").View} view */
  update(view) {
    this.view = view;
    const { snapshot, connected, absent } = view;
    const open = connected && !absent && !isPreloading(snapshot);
    setAttribute(this.node, "lang", language());
    setAttribute(this.node, "aria-label", t("title"));
    this.header.update(view);
    this.access.update();
    updateButton(this.reload, { label: t("action.reload"), title: t("action.reloadAll"), enabled: open });
    const asleep = snapshot?.sleeping ?? false;
    updateButton(this.sleep, {
      label: t(asleep ? "action.wake" : "action.sleep"),
      title: t(asleep ? "action.wakeHelp" : "action.sleepHelp"),
      enabled: open,
    });
    setAttribute(this.sleep.firstChild, "class", asleep ? "pi pi-sun" : "pi pi-moon");
    updateButton(this.entries, { label: t("action.entries"), title: t("action.entriesHelp") });
    setAttribute(this.tools, "aria-label", t("actions"));
    setAttribute(this.node, "data-stale", !connected);
    if (snapshot) this.#fill(snapshot);
  }

  /** @param {import("./types.js").Snapshot} now */
  #fill(now) {
    const items = failedFirst(now.models.items);
    this.#showResult(now.jobs.find((job) => job.id === this.ordered));
    const wanted = this.filter.value.trim().toLowerCase();
    this.fault.update(now.fault);
    this.file.update(now.failing["preload.yaml"] ?? null);
    show(this.empty, items.length === 0 && !now.failing["preload.yaml"] && !isBusy(now));
    write(this.empty, t("nothing"));
    show(this.filter, items.length > MANY);
    setAttribute(this.filter, "placeholder", t("filter"));
    setAttribute(this.filter, "aria-label", t("filter"));
    const shown =
      wanted && items.length > MANY
        ? items.filter((m) => `${m.name} ${m.kind} ${m.state}`.toLowerCase().includes(wanted))
        : items;
    this.models.update(
      t("models", { n: items.length }),
      shown,
      (model) => model.name,
      this.modelRow,
      items.length > 0,
    );
    this.workflows.update(
      t("workflows"),
      failingWorkflows(now),
      ([workflow]) => workflow,
      this.plainRow.for(failingFacts),
    );
    this.warmups.update(
      t("warmups"),
      failedFirst(now.warmups),
      (one) => one.name,
      this.plainRow.for(warmupFacts),
    );
    this.served.update(
      t("servedWorkflows"),
      now.workflows.filter((one) => one.served.prompts || one.last_miss),
      (one) => one.name,
      this.plainRow.for(workflowFacts),
    );
    this.left.update(
      t("notPreloaded", { n: now.models.not_preloaded }),
      now.not_preloaded,
      (one) => `${one.workflow} ${one.node}`,
      this.plainRow.for(leftFacts),
    );
    this.jobs.update(t("jobs"), [...now.jobs].reverse(), (one) => one.id, this.plainRow.for(jobFacts));
    const waiting = now.queue_remaining ? t("waiting", { n: now.queue_remaining }) : "";
    write(this.host, [this.facts(), waiting].filter(Boolean).join(" · "));
  }

  /** What an answer to a question would begin with. */
  facts() {
    const host = this.view.snapshot?.host;
    return host
      ? [`ComfyUI ${host.comfyui}`, `Python ${host.python}`, `torch ${host.torch}`, host.device].join(" · ")
      : "";
  }

  /** What became of the last command, beside its button. @param {import("./types.js").Job | undefined} job */
  #showResult(job) {
    show(this.result, job !== undefined);
    if (!job) return;
    setAttribute(this.result, "data-state", job.state);
    const title = [name("command", job.command), job.model].filter(Boolean).join(" ");
    const said =
      job.error?.message ??
      (did(job).join(" · ") || t(job.state === "done" ? "nothingNew" : `jobState.${job.state}`));
    write(this.result, `${title}: ${said}`);
    setAttribute(this.result, "title", this.result.textContent);
  }

  /** @param {Command} command @param {string} [model] */
  async #order(command, model) {
    try {
      this.ordered = (await this.give(command, model)).id;
      this.access.forget();
      this.header.announce(
        t("ordered", { command: [name("command", command), model].filter(Boolean).join(" ") }),
      );
    } catch (error) {
      this.access.refuse(/** @type {Error} */ (error), () => this.#order(command, model));
    }
  }

  #toFirstFailed() {
    this.filter.value = "";
    this.update(this.view);
    const row = this.node.querySelector('[data-state="failed"]');
    row?.scrollIntoView({ block: "center" });
    row?.querySelector("button")?.focus({ preventScroll: true });
  }
}

/** @template {{state: string}} T @param {T[]} items @returns {T[]} */
function failedFirst(items) {
  const failed = items.filter((one) => one.state === "failed");
  return failed.length ? [...failed, ...items.filter((one) => one.state !== "failed")] : items;
}

/**
 * A heading and a list, gone while there is nothing in it.
 * @param {string} id @param {string} kind @param {{folded?: boolean}} [options] `folded`: it opens with a click
 */
function section(id, kind, { folded = false } = {}) {
  const heading = h(folded ? "summary" : "h3", { id });
  const list = h(kind, { class: "cp-list", "aria-labelledby": id, role: "list" });
  const node = h(folded ? "details" : "div", { class: "cp-section", hidden: true }, heading, list);
  return {
    node,
    list,
    /**
     * @template T
     * @param {string} title @param {T[]} items @param {(item: T) => string} key
     * @param {(item: T) => any} build @param {boolean} [visible]
     */
    update(title, items, key, build, visible = items.length > 0) {
      show(node, visible);
      write(heading, title);
      each(list, items, key, build);
    },
  };
}
