/** One row for each model, as high in every state but failed, so that nothing jumps. Its figures open under the name. */

import { button, h, setAttribute, show, updateButton, write } from "./dom.js";
import { name, seconds, size, t } from "./i18n.js";
import { ProblemBox } from "./problem_box.js";
import { missFacts, servedFacts } from "./rows.js";

const STAGES = /** @type {const} */ (["read", "load", "move", "warm"]);

/**
 * @param {(command: "reload" | "release", model: string, from: Element) => void} order
 * @param {() => string} facts about the host, for the details of an error
 * @param {() => boolean} isBusy the preload is under way: no commands yet
 * @returns {(model: import("./types.js").Model) => HTMLElement & {update: (model: import("./types.js").Model) => void}}
 */
export function rows(order, facts, isBusy) {
  return (first) => {
    const title = h("button", {
      type: "button",
      class: "cp-open",
      "aria-expanded": "false",
      title: first.name,
    });
    title.addEventListener("click", () => {
      show(details, details.hidden);
      setAttribute(title, "aria-expanded", details.hidden ? "false" : "true");
    });
    const state = h("span", { class: "cp-state" });
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
    const what = h("span", { class: "cp-what" });
    const where = h("span", { class: "cp-where" });
    const resident = h("span", { class: "cp-fill" });
    const meter = h(
      "div",
      { class: "cp-meter", role: "meter", "aria-valuemin": 0, "aria-valuemax": 100 },
      resident,
    );
    const details = h("div", { class: "cp-fine cp-details", hidden: true });
    const box = new ProblemBox(() => `${first.name} (${first.loader})`, facts);
    const node = h(
      "li",
      { class: "cp-model" },
      h(
        "div",
        { class: "cp-line cp-only" },
        h("h4", { class: "cp-name" }, title),
        h("span", { class: "cp-tools" }, reload, release),
      ),
      h("div", { class: "cp-line cp-only cp-fine" }, state, what, where),
      meter,
      details,
      box.node,
    );

    node.update = (/** @type {import("./types.js").Model} */ model) => {
      const free = !isBusy();
      const loaded = ["staged", "resident", "warm", "evicted"].includes(model.state);
      setAttribute(node, "data-state", model.state);
      write(title, model.name);
      const inMemory = model.state === "resident" && (model.device ?? "").startsWith("cpu");
      write(state, name("state", inMemory ? "inMemory" : model.state));
      setAttribute(state, "title", name("stateHelp", model.state));
      updateButton(reload, { label: "", title: t("action.reloadOne", { model: model.name }), enabled: free });
      updateButton(release, {
        label: "",
        title: t("action.releaseOne", { model: model.name }),
        enabled: free && loaded,
      });
      write(
        what,
        [name("kind", model.kind), model.device, model.required ? "" : t("optional")]
          .filter(Boolean)
          .join(" · "),
      );
      setAttribute(what, "title", what.textContent);
      const share = loaded && model.bytes ? model.bytes_on_device / model.bytes : 0;
      const partly = loaded && share > 0 && share < 0.99;
      setAttribute(where, "title", partly ? t("onDeviceHelp") : null);
      write(
        where,
        partly
          ? t("onDevice", { there: size(model.bytes_on_device), all: size(model.bytes) })
          : model.bytes
            ? size(model.bytes)
            : "",
      );
      show(meter, model.state !== "failed");
      setAttribute(meter, "aria-valuenow", Math.round(share * 100));
      setAttribute(meter, "aria-label", t("meter", { model: model.name }));
      resident.style.width = `${share * 100}%`;
      write(details, figures(model));
      box.update(model.error);
    };
    return node;
  };
}

/** The loader, the seconds of each stage, and how often it was used. @param {import("./types.js").Model} model */
function figures(model) {
  const took = STAGES.filter((stage) => model.seconds[stage]).map(
    (stage) => `${t(`stage.${stage}`)} ${seconds(model.seconds[stage] ?? 0)}`,
  );
  const parts = [model.loader, ...took, t("hits", { n: model.hits })];
  if (model.evictions) parts.push(t("evictions", { n: model.evictions }));
  parts.push(...servedFacts(model.served), ...missFacts(model.last_miss));
  if (model.warm_for.length) parts.push(t("warmFor", { shapes: model.warm_for.join("; ") }));
  return parts.join(" · ");
}
