/** One row for each model, as high in every state but failed, so that nothing jumps. Its figures open under the name. */

import { button, dress, make, put, show, write } from "./parts.js";
import { missFacts, servedFacts } from "./rows.js";
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
    const title = make("button", {
      type: "button",
      class: "cp-open",
      "aria-expanded": "false",
      title: first.name,
    });
    title.addEventListener("click", () => {
      show(details, details.hidden);
      put(title, "aria-expanded", details.hidden ? "false" : "true");
    });
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
    const details = make("div", { class: "cp-fine cp-details", hidden: true });
    const trouble = new Trouble(() => `${first.name} (${first.loader})`, facts);
    const node = make(
      "li",
      { class: "cp-model" },
      make(
        "div",
        { class: "cp-line cp-only" },
        make("h4", { class: "cp-name" }, title),
        make("span", { class: "cp-tools" }, reload, release),
      ),
      make("div", { class: "cp-line cp-only cp-fine" }, state, what, where),
      meter,
      details,
      trouble.node,
    );

    node.update = (/** @type {import("./types.js").Model} */ model) => {
      const free = !isBusy();
      const loaded = ["staged", "resident", "warm", "evicted"].includes(model.state);
      put(node, "data-state", model.state);
      write(title, model.name);
      const inMemory = model.state === "resident" && (model.device ?? "").startsWith("cpu");
      write(state, name("state", inMemory ? "inMemory" : model.state));
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
      put(what, "title", what.textContent);
      const share = loaded && model.bytes ? model.bytes_on_device / model.bytes : 0;
      const partly = loaded && share > 0 && share < 0.99;
      put(where, "title", partly ? say("onDeviceHelp") : null);
      write(
        where,
        partly
          ? say("onDevice", { there: size(model.bytes_on_device), all: size(model.bytes) })
          : model.bytes
            ? size(model.bytes)
            : "",
      );
      show(meter, model.state !== "failed");
      put(meter, "aria-valuenow", Math.round(share * 100));
      put(meter, "aria-label", say("meter", { model: model.name }));
      resident.style.width = `${share * 100}%`;
      write(details, figures(model));
      trouble.update(model.error);
    };
    return node;
  };
}

/** The loader, the seconds of each stage, and how often it was used. @param {import("./types.js").Model} model */
function figures(model) {
  const took = STAGES.filter((stage) => model.seconds[stage]).map(
    (stage) => `${say(`stage.${stage}`)} ${seconds(model.seconds[stage] ?? 0)}`,
  );
  const parts = [model.loader, ...took, say("hits", { n: model.hits })];
  if (model.evictions) parts.push(say("evictions", { n: model.evictions }));
  parts.push(...servedFacts(model.served), ...missFacts(model.last_miss));
  if (model.warm_for.length) parts.push(say("warmFor", { shapes: model.warm_for.join("; ") }));
  return parts.join(" · ");
}
