/** Comfy Preload in ComfyUI's window: a sidebar panel, commands, settings, messages. Only the public extension API is used. */

import { app } from "../../scripts/app.js";
import { tokenField } from "./access.js";
import { RefusedError, order as send, token } from "./client.js";
import { showEntries } from "./entries.js";
import { isLoader } from "./loaders.js";
import { MESSAGES, TAB, message, tell } from "./news.js";
import { Panel } from "./panel.js";
import { make } from "./parts.js";
import { Watch } from "./watch.js";
import { label, learn, name, say } from "./words.js";

let learned = await learn().catch(() => false);
const watch = new Watch();
const category = label("settingsCategories", "Comfy Preload");

/** @param {"reload" | "release" | "sleep" | "wake"} command @param {string} [model] */
async function order(command, model) {
  const job = await send(command, model);
  watch.ask();
  return job;
}

/** As a command of ComfyUI: what goes wrong is told in a message. @param {"reload" | "release" | "sleep" | "wake"} what */
async function run(what) {
  try {
    await order(what);
  } catch (error) {
    const refused = error instanceof RefusedError;
    message(
      "error",
      say("jobFailed", { command: name("command", what) }),
      refused ? `${error.message} ${error.hint}` : say("lost"),
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

  getCanvasMenuItems: () => [{ content: say("entries.command"), callback: showEntries }],
  getNodeMenuItems: (/** @type {any} */ node) =>
    isLoader(node) ? [{ content: say("entries.command"), callback: showEntries }] : [],

  async setup() {
    document.head.append(
      make("link", { rel: "stylesheet", href: new URL("style.css", import.meta.url).href }),
    );
    const panel = new Panel(order, showEntries);
    watch.listen(async (view, before) => {
      if (!learned && view.connected) learned = await learn().catch(() => false);
      panel.update(view);
      tell(view, before);
    });
    app.extensionManager.registerSidebarTab({
      id: TAB,
      icon: "pi pi-bolt",
      iconBadge: "",
      title: say("title"),
      tooltip: say("title"),
      type: "custom",
      render: (/** @type {HTMLElement} */ place) => {
        panel.update(watch.view);
        place.append(panel.node);
        watch.open = true;
      },
      destroy: () => {
        watch.open = false;
      },
    });
    // The interface's own settings tell when the language changes.
    app.ui?.settings?.addEventListener?.("Comfy.Locale.change", () =>
      setTimeout(() => panel.update(watch.view)),
    );
    watch.start();
  },
});
