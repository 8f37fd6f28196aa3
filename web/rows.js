/** Rows of a few words: warm-ups, jobs, workflows that cannot be read, and nodes that are not preloaded. */

import { make, put, show, write } from "./parts.js";
import { Trouble } from "./trouble.js";
import { clock, name, say, seconds } from "./words.js";

/** A row of a few words, and an error if there is one. @param {() => string} facts */
export function plainRow(facts) {
  return {
    /** @param {(item: any) => {title: string, state: string, fine: string, raw: string, error: import("./types.js").Problem | null}} tell */
    for: (tell) => (/** @type {any} */ first) => {
      const title = make("span", { class: "cp-name" });
      const state = make("span", { class: "cp-state" });
      const fine = make("span", { class: "cp-what" });
      const trouble = new Trouble(() => tell(first).title, facts);
      const node = make(
        "li",
        { class: "cp-row" },
        make("div", { class: "cp-line" }, title, state),
        make("div", { class: "cp-line cp-fine" }, fine),
        trouble.node,
      );
      node.update = (/** @type {any} */ item) => {
        const told = tell(item);
        put(node, "data-state", told.raw);
        write(title, told.title);
        write(state, told.state);
        show(state, told.state !== "");
        write(fine, told.fine);
        trouble.update(told.error);
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
    item.required ? "" : say("optional"),
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
    item.ratio === null ? "" : say("ratio", { n: item.ratio.toFixed(2) }),
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
    item.reason === "memory" ? say("forMemory") : "",
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
    .map((what) => `${say(`did.${what}`)} ${few(item[what])}`);
}

/** @param {string[]} names */
function few(names) {
  return names.length > 3
    ? say("andMore", { names: names.slice(0, 3).join(", "), n: names.length - 3 })
    : names.join(", ");
}

/** What a model or a workflow has served, and how fast. @param {import("./types.js").Served} item @returns {string[]} */
export function servedFacts(item) {
  return [
    item.prompts ? say("served", { n: item.prompts }) : "",
    item.first === null ? "" : say("firstUse", { s: seconds(item.first) }),
    item.median === null ? "" : say("steadyUse", { s: seconds(item.median) }),
  ].filter(Boolean);
}

/** @param {string | null} miss @returns {string[]} */
export function missFacts(miss) {
  return miss === null ? [] : [say("lastMiss", { why: miss })];
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
    fine: [item.workflow, say("node", { id: item.node }), item.message].join(" · "),
    error: null,
  };
}
