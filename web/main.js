/** Comfy Preload in ComfyUI's window: a sidebar panel, commands, settings, messages. Only the public extension API is used. */

import { app } from "../../scripts/app.js";
import { RefusedError, order as send, token } from "./client.js";
import { h } from "./dom.js";
import { showEntries } from "./entries.js";
import { label, loadTexts, name, t } from "./i18n.js";
import { isLoader } from "./loaders.js";
import { MESSAGES, TAB, message, notify } from "./notifications.js";
import { Panel } from "./panel.js";
import { Poller } from "./poller.js";
import { tokenField } from "./token_form.js";

let loaded = await loadTexts().catch(() => false);
const poller = new Poller();
const category = label("settingsCategories", "Comfy Preload");

/** @param {"reload" | "release" | "sleep" | "wake"} command @param {string} [model] */
async function order(command, model) {
  const job = await send(command, model);
  poller.ask();
  return job;
}

/** As a command of ComfyUI: what goes wrong is shown in a message. @param {"reload" | "release" | "sleep" | "wake"} what */
async function run(what) {
  try {
    await order(what);
  } catch (error) {
    const refused = error instanceof RefusedError;
    message(
      "error",
      t("jobFailed", { command: name("command", what) }),
      refused ? `${error.message} ${error.hint}` : t("lost"),
    );
  }
}

/** @param {string} id @param {string} icon @param {() => unknown} act */
function command(id, icon, act) {
  return {
    id: `ComfyPreload.${id}`,
    label: label("commands", `ComfyPreload_${id}`, "label"),
    icon: `pi ${icon}`,
    function: act,
  };
}

function tokenSetting() {
  const field = tokenField();
  field.addEventListener("change", () => token.set(field.value.trim()));
  return field;
}

app.registerExtension({
  name: "ComfyPreload",
  aboutPageBadges: [
    { label: "Comfy Preload", url: "https://github.com/comfy-preload/comfyui-preload", icon: "pi pi-bolt" },
  ],
  settings: [
    {
      id: MESSAGES,
      name: label("settings", "ComfyPreload_Messages", "name"),
      type: "boolean",
      defaultValue: true,
      category: [category, label("settingsCategories", "Panel"), "Messages"],
    },
    {
      id: "ComfyPreload.Token",
      name: label("settings", "ComfyPreload_Token", "name"),
      tooltip: label("settings", "ComfyPreload_Token", "tooltip"),
      type: tokenSetting,
      defaultValue: "",
      category: [category, label("settingsCategories", "Panel"), "Token"],
    },
  ],
  commands: [
    command("Entries", "pi-list", showEntries),
    command("Reload", "pi-refresh", () => run("reload")),
    command("Release", "pi-eject", () => run("release")),
    command("Sleep", "pi-moon", () => run("sleep")),
    command("Wake", "pi-sun", () => run("wake")),
  ],
  menuCommands: [
    {
      path: [category],
      commands: ["Entries", "Reload", "Release", "Sleep", "Wake"].map((id) => `ComfyPreload.${id}`),
    },
  ],

  getCanvasMenuItems: () => [{ content: t("entries.command"), callback: showEntries }],
  getNodeMenuItems: (/** @type {any} */ node) =>
    isLoader(node) ? [{ content: t("entries.command"), callback: showEntries }] : [],

  async setup() {
    document.head.append(h("link", { rel: "stylesheet", href: new URL("style.css", import.meta.url).href }));
    const panel = new Panel(order, showEntries);
    poller.listen(async (view, before) => {
      if (!loaded && view.connected) loaded = await loadTexts().catch(() => false);
      panel.update(view);
      notify(view, before);
    });
    app.extensionManager.registerSidebarTab({
      id: TAB,
      icon: "pi pi-bolt",
      iconBadge: "",
      title: t("title"),
      tooltip: t("title"),
      type: "custom",
      render: (/** @type {HTMLElement} */ place) => {
        panel.update(poller.view);
        place.append(panel.node);
        poller.open = true;
      },
      destroy: () => {
        poller.open = false;
      },
    });
    // The interface's own settings report a change of the language.
    app.ui?.settings?.addEventListener?.("Comfy.Locale.change", () =>
      setTimeout(() => panel.update(poller.view)),
    );
    poller.start();
  },
});
