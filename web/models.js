/** One row for each model, as high in every state but failed, so that nothing jumps: what it is, where it is, how long it took, and what can be done about it. */

import { button, dress, make, put, show, write } from "./parts.js";
import { Trouble } from "./trouble.js";
import { name, say, seconds, size } from "./words.js";

const STAGES = /** @type {const} */ (["read", "load", "move", "warm"]);

/**
 * @param {(command: "reload" | "release", model: string, from: Element) => void} order
 * @param {() => string} facts about the host, for the details of an error
 * @param {() => boolean} isBusy the preload is under way: no commands yet
 * @returns {(model: import("./types.js").Model) => HTMLElement & {update: (model: import("./types.js").Model) => void}}
 */
export function rows(order, facts, isBusy) {
  return (first) => {
    const title = make("h4", { class: "cp-name", title: first.name });
    const state = make("span", { class: "cp-state" });
    const reload = button(
      "pi-refresh",
      (event) => order("reload", first.name, /** @type {Element} */ (event.currentTarget)),
      "cp-small",
    );
    const release = button(
      "pi-eject",
      (event) => order("release", first.name, /** @type {Element} */ (event.currentTarget)),
      "cp-small",
    );
    const what = make("span", { class: "cp-what" });
    const where = make("span", { class: "cp-where" });
    const resident = make("span", { class: "cp-fill" });
    const meter = make(
      "div",
      { class: "cp-meter", role: "meter", "aria-valuemin": 0, "aria-valuemax": 100 },
      resident,
    );
    const stages = stageBar();
    const use = make("span", { class: "cp-use cp-fine" });
    const trouble = new Trouble(() => `${first.name} (${first.loader})`, facts);
    const third = make("div", { class: "cp-line cp-fine cp-third" }, stages.node);
    const node = make(
      "li",
      { class: "cp-model" },
      make("div", { class: "cp-line" }, title, use, make("span", { class: "cp-tools" }, reload, release)),
      make("div", { class: "cp-line cp-fine" }, state, what, where),
      meter,
      third,
      trouble.node,
    );

    node.update = (/** @type {import("./types.js").Model} */ model) => {
      const free = !isBusy();
      const loaded = ["staged", "resident", "warm", "evicted"].includes(model.state);
      put(node, "data-state", model.state);
      write(title, model.name);
      write(state, name("state", model.state));
      put(state, "title", name("stateHelp", model.state));
      dress(reload, { label: "", title: say("action.reloadOne", { model: model.name }), enabled: free });
      dress(release, {
        label: "",
        title: say("action.releaseOne", { model: model.name }),
        enabled: free && loaded,
      });
      write(
        what,
        [name("kind", model.kind), model.device, model.required ? "" : say("optional")]
          .filter(Boolean)
          .join(" · "),
      );
      put(what, "title", model.loader);
      const share = loaded && model.bytes ? model.bytes_on_device / model.bytes : 0;
      put(where, "title", loaded ? say("onDeviceHelp") : null);
      write(
        where,
        loaded
          ? say("onDevice", { there: size(model.bytes_on_device), all: size(model.bytes) })
          : model.bytes
            ? size(model.bytes)
            : "",
      );
      show(meter, model.state !== "failed");
      show(third, model.state !== "failed");
      put(meter, "aria-valuenow", Math.round(share * 100));
      put(meter, "aria-label", say("meter", { model: model.name }));
      resident.style.width = `${share * 100}%`;
      stages.update(model.seconds);
      write(
        use,
        [
          loaded || model.hits ? say("hits", { n: model.hits }) : "",
          model.evictions ? say("evictions", { n: model.evictions }) : "",
        ]
          .filter(Boolean)
          .join(" · "),
      );
      trouble.update(model.error);
    };
    return node;
  };
}

/** The seconds of each stage, side by side, as wide as they took long. */
function stageBar() {
  const parts = STAGES.map((stage) => make("span", { class: `cp-stage cp-${stage}` }));
  const bar = make("span", { class: "cp-stages", "aria-hidden": "true" }, ...parts);
  const text = make("span");
  const node = make("span", { class: "cp-took" }, bar, text);
  return {
    node,
    /** @param {import("./types.js").Model["seconds"]} took */
    update(took) {
      const known = STAGES.filter((stage) => took[stage] !== null && took[stage] > 0);
      const total = known.reduce((sum, stage) => sum + (took[stage] ?? 0), 0);
      STAGES.forEach((stage, number) => {
        parts[number].style.flexGrow = String(((took[stage] ?? 0) / total) * 100);
        show(parts[number], known.includes(stage));
      });
      show(node, known.length > 0);
      const each = known.map((stage) => `${say(`stage.${stage}`)} ${seconds(took[stage] ?? 0)}`).join(" · ");
      write(text, each);
      put(node, "title", known.length > 1 ? seconds(total) : null);
    },
  };
}
