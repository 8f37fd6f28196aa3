/** Rows of a few words: warm-ups, jobs, workflows that cannot be read, and nodes that are not preloaded. */

import { h, setAttribute, show, write } from "./dom.js";
import { clock, name, seconds, t } from "./i18n.js";
import { ProblemBox } from "./problem_box.js";

/** A row of a few words, and an error if there is one. @param {() => string} facts */
export function plainRow(facts) {
  return {
    /** @param {(item: any) => {title: string, state: string, fine: string, raw: string, error: import("./types.js").Problem | null}} describe */
    for: (describe) => (/** @type {any} */ first) => {
      const title = h("span", { class: "cp-name" });
      const state = h("span", { class: "cp-state" });
      const fine = h("span", { class: "cp-what" });
      const box = new ProblemBox(() => describe(first).title, facts);
      const node = h(
        "li",
        { class: "cp-row" },
        h("div", { class: "cp-line" }, title, state),
        h("div", { class: "cp-line cp-fine" }, fine),
        box.node,
      );
      node.update = (/** @type {any} */ item) => {
        const now = describe(item);
        setAttribute(node, "data-state", now.raw);
        write(title, now.title);
        write(state, now.state);
        show(state, now.state !== "");
        write(fine, now.fine);
        box.update(now.error);
      };
      return node;
    },
  };
}

/** @param {import("./types.js").WarmUp} item */
export function warmupFacts(item) {
  const fine = [
    item.seconds === null ? "" : seconds(item.seconds),
    ...item.profiles.map(profileFacts),
    item.required ? "" : t("optional"),
  ];
  return {
    title: item.name,
    state: name("state", item.state),
    raw: item.state,
    fine: fine.filter(Boolean).join(" · "),
    error: item.error,
  };
}

/** A size, and what is not as usual about it: 512x512, batch 1 (degraded, 1.31). @param {import("./types.js").Profile} item */
function profileFacts(item) {
  const parts = [
    ["degraded", "failed", "skipped"].includes(item.state) ? name("state", item.state) : "",
    item.ratio === null ? "" : t("ratio", { n: item.ratio.toFixed(2) }),
  ].filter(Boolean);
  return parts.length ? `${item.shape} (${parts.join(", ")})` : item.shape;
}

/** @param {import("./types.js").Job} item */
export function jobFacts(item) {
  const took =
    item.started && item.ended ? seconds((Date.parse(item.ended) - Date.parse(item.started)) / 1000) : "";
  const parts = [
    clock(item.created),
    took && item.started !== item.ended ? took : "",
    item.reason === "memory" ? t("forMemory") : "",
  ];
  parts.push(...did(item));
  const title = [name("command", item.command), item.model].filter(Boolean).join(" ");
  return {
    title,
    state: name("jobState", item.state),
    raw: item.state,
    fine: parts.filter(Boolean).join(" · "),
    error: item.error,
  };
}

/** What a job loaded, kept and released. @param {import("./types.js").Job} item @returns {string[]} */
export function did(item) {
  return /** @type {const} */ (["loaded", "kept", "released"])
    .filter((what) => item[what].length)
    .map((what) => `${t(`did.${what}`)} ${few(item[what])}`);
}

/** @param {string[]} names */
function few(names) {
  return names.length > 3
    ? t("andMore", { names: names.slice(0, 3).join(", "), n: names.length - 3 })
    : names.join(", ");
}

/** What a model or a workflow has served, and how fast. @param {import("./types.js").Served} item @returns {string[]} */
export function servedFacts(item) {
  return [
    item.prompts ? t("served", { n: item.prompts }) : "",
    item.first === null ? "" : t("firstUse", { s: seconds(item.first) }),
    item.median === null ? "" : t("steadyUse", { s: seconds(item.median) }),
  ].filter(Boolean);
}

/** @param {string | null} miss @returns {string[]} */
export function missFacts(miss) {
  return miss === null ? [] : [t("lastMiss", { why: miss })];
}

/** What a workflow has served. @param {import("./types.js").Workflow} item */
export function workflowFacts(item) {
  return {
    title: item.name,
    state: "",
    raw: "served",
    fine: [...servedFacts(item.served), ...missFacts(item.last_miss)].join(" · "),
    error: null,
  };
}

/** A workflow that cannot be read, or a model that the server lists no row of. @param {[string, import("./types.js").Problem]} item */
export function failingFacts([subject, error]) {
  return { title: subject, state: name("state", "failed"), raw: "failed", fine: "", error };
}

/** A node of a workflow that a prompt loads, and why. @param {import("./types.js").NotPreloaded} item */
export function leftFacts(item) {
  return {
    title: item.loader,
    state: "",
    raw: "left",
    fine: [item.workflow, t("node", { id: item.node }), item.message].join(" · "),
    error: null,
  };
}
