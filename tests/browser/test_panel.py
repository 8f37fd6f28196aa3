"""The panel on a server that has finished.

Commands by button and by keyboard, errors, many models, a server that goes away.
"""

from __future__ import annotations

import json

import pytest

from tests.browser.conftest import Comfy
from tests.support import prompts
from tests.support.base_directory import ROOT
from tests.support.browser import TAB, Window, picture
from tests.support.comfy import ComfyServer
from tests.support.commands import carry_out
from tests.support.readings import CUSTOM_NODES

PRELOAD = """
models:
  - unet: tiny.safetensors
  - vae: taesd3
    required: false
  - unet: tinyy.safetensors
    name: flux
    required: false
"""
MANY = "models:\n" + "".join(
    f"  - {{loader: TestHiddenLoader, inputs: {{number: {n}}}, name: model-{n:03}}}\n" for n in range(100)
)
PUSH = """
from aiohttp import web
from server import PromptServer

@PromptServer.instance.routes.post("/test/push")
async def push(request):
    PromptServer.instance.send_sync("comfy_preload.changed", {})
    return web.Response()

NODE_CLASS_MAPPINGS = {}
"""
RELOAD = "Read preload.yaml again and load new and changed models"
SLEEP = "Move all models from the device to main memory"
WAKE = "Move all models back to the device"
ENTRIES = "Show the preload.yaml entries for the open workflow"
IMAGES = ROOT / "docs" / "images"
TOKEN = "correct horse"  # noqa: S105 — a token for tests


def needs_server_side(server: ComfyServer) -> None:
    """For what came with `POST /preload/entries`."""
    if server.post("/preload/entries", {"prompt": {}}).status in (404, 405):
        pytest.skip("this server has no POST /preload/entries")


@pytest.fixture(scope="module")
def server(module_comfy: Comfy) -> ComfyServer:
    nodes = {"loaders": CUSTOM_NODES / "loaders", "push": PUSH}
    return module_comfy(preload=PRELOAD, custom_nodes=nodes, env={"PRELOAD_TOKEN": TOKEN})


def write(server: ComfyServer, text: str) -> None:
    (server.base / "preload.yaml").write_text(text, encoding="utf-8")


def focused(window: Window) -> str | None:
    """What the keyboard would act on, by its accessible name."""
    return window.page.evaluate("document.activeElement?.getAttribute('aria-label')")


def test_failed_model_tells_what_to_do(window: Window) -> None:
    """Message, hint and code are there to read and to copy; the count at the top leads to it."""
    window.wait("Degraded")
    trouble = window.row("flux").locator(".cp-problem")
    assert "tinyy.safetensors is in none of" in trouble.locator(".cp-message").inner_text()
    assert "Nearest: tiny.safetensors." == trouble.locator(".cp-hint").inner_text()
    assert "file_missing · line 6" == trouble.locator("code").inner_text()
    assert "!" == window.badge

    names = window.panel.locator(".cp-model").evaluate_all("rows => rows.map(row => row.dataset.key)")
    assert ["flux", "tiny", "taesd3"] == names, "what failed is on top"
    window.button("1 failed").click()
    assert "flux" == window.page.evaluate("document.activeElement?.closest('.cp-model')?.dataset.key")
    trouble.get_by_role("button").click()
    trouble.get_by_text("Copied").wait_for()
    copied = window.page.evaluate("navigator.clipboard.readText()")
    for part in (
        "flux (UNETLoader)",
        "[file_missing]",
        "Nearest: tiny.safetensors",
        "preload.yaml:6",
        "ComfyUI ",
    ):
        assert part in copied


def test_sleep_and_wake(server: ComfyServer, window: Window) -> None:
    """By button: all weights leave the device and come back, and the last jobs are reported."""
    window.button(SLEEP).click()
    window.wait("Sleeping")
    window.wait_until(lambda: window.state("tiny") == "evicted", "off the device")
    assert "3.2 MB" in window.row("tiny").inner_text()
    assert "sleeping" == server.get("/ready").json["status"]
    window.button(WAKE).click()
    window.wait("Degraded")
    window.wait_until(lambda: window.state("tiny") == "resident", "on the device again")
    jobs = window.panel.locator(".cp-row")
    window.wait_until(lambda: jobs.count() >= 2 and jobs.first.get_attribute("data-state") == "done", "done")
    assert "Wake" in jobs.first.inner_text()
    assert "loaded: tiny, taesd3" in jobs.first.inner_text()


def test_figures_of_a_model(window: Window) -> None:
    """Seconds and hits open under the name, by mouse or keyboard.

    Rows that did not fail are of one height.
    """
    name = window.row("tiny").get_by_role("button", name="tiny", exact=True)
    details = window.row("tiny").locator(".cp-details")
    heights = window.panel.locator('.cp-model:not([data-state="failed"])').evaluate_all(
        "rows => rows.map(row => row.offsetHeight)"
    )
    assert 1 == len(set(heights))
    assert details.is_hidden()
    name.click()
    assert "UNETLoader · load " in details.inner_text()
    assert "hits " in details.inner_text()
    assert "true" == name.get_attribute("aria-expanded")
    name.press("Enter")
    assert details.is_hidden()
    assert "in memory" in window.row("tiny").inner_text(), "there is no other device"


def test_result_beside_the_button(window: Window) -> None:
    """What became of Reload stands under it: one file of the plan is still missing."""
    window.button(RELOAD).click()
    result = window.panel.locator(".cp-result")
    window.wait_until(lambda: "Reload" in result.inner_text(), "the result of this command")
    window.wait_until(lambda: result.get_attribute("data-state") == "failed", "the job's end")
    assert "the new plan is in place without 1 model: flux" in result.inner_text()


def test_release_and_reload_of_one_model(window: Window) -> None:
    window.button("Release taesd3 from memory").click()
    window.wait_until(lambda: window.state("taesd3") == "released", "released")
    assert window.button("Release taesd3 from memory").get_attribute("aria-disabled"), (
        "there is nothing to release"
    )
    assert "resident" == window.state("tiny")
    window.button("Reload taesd3").click()
    window.wait_until(lambda: window.state("taesd3") == "resident", "loaded again")


def test_failed_command_is_told(server: ComfyServer, window: Window) -> None:
    """A message while it happens, and the reason among the last jobs."""
    write(server, "modles: []\n")
    window.button(RELOAD).click()
    window.toasts.filter(has_text="Preload: Reload failed").first.wait_for()
    trouble = window.panel.locator(".cp-row").first.locator(".cp-problem")
    trouble.wait_for()
    assert "unknown key 'modles'" in trouble.inner_text()
    assert "reload_kept_old" in trouble.inner_text()
    write(server, PRELOAD)
    carry_out(server, "reload")


def test_workflow_that_cannot_be_read(server: ComfyServer, window: Window) -> None:
    """Without a warm-up it is not a row of those: its error stands by itself, and is counted once."""
    (server.base / "broken.json").write_text("{", encoding="utf-8")
    write(server, PRELOAD + "workflows: [{path: broken.json, required: false}]\n")
    window.button(RELOAD).click()
    row = window.panel.locator('[data-key="broken.json"]')
    row.locator(".cp-problem").wait_for()
    assert window.button("2 failed").is_visible()
    assert "Warm-ups" not in window.panel.inner_text()
    write(server, PRELOAD)
    carry_out(server, "reload")
    row.wait_for(state="detached")


def test_not_preloaded(server: ComfyServer, window: Window) -> None:
    """What a workflow leaves to its first prompt is counted, and listed with a click."""
    graph = prompts.image(lora="tiny.safetensors")
    (server.base / "lora.json").write_text(json.dumps(graph), encoding="utf-8")
    write(server, PRELOAD + "workflows: [{path: lora.json}]\n")
    window.button(RELOAD).click()
    window.panel.get_by_text("Not preloaded (1)").click()
    row = window.panel.locator('[data-key="lora.json lora"]')
    row.wait_for()
    assert "LoraLoaderModelOnly" in row.inner_text()
    assert "lora.json · node lora · " in row.inner_text()
    write(server, PRELOAD)
    carry_out(server, "reload")
    row.wait_for(state="detached")


def test_keyboard_only(window: Window) -> None:
    """Open, walk, sleep, wake: without a mouse, and the focus stays where it was while the panel changes."""
    page = window.page
    page.click(TAB)
    window.panel.wait_for(state="hidden")
    page.focus(TAB)
    page.keyboard.press("Enter")
    window.panel.wait_for()
    for _ in range(40):
        if focused(window) == SLEEP:
            break
        page.keyboard.press("Tab")
    assert SLEEP == focused(window)
    page.keyboard.press("Enter")
    window.wait("Sleeping")
    assert WAKE == focused(window)
    page.keyboard.press("Space")
    window.wait("Degraded")
    assert SLEEP == focused(window)


def test_refusal_and_token(window: Window) -> None:
    """From elsewhere (here: through a proxy) commands are refused with a reason.

    With the token they are taken.
    """
    window.page.set_extra_http_headers({"X-Forwarded-For": "203.0.113.7"})
    window.button(SLEEP).click()
    alert = window.panel.get_by_role("alert")
    alert.wait_for()
    assert "without the token" in alert.inner_text()
    alert.get_by_label("Token (PRELOAD_TOKEN)").fill(TOKEN)
    window.page.keyboard.press("Enter")
    window.wait("Sleeping")
    assert alert.is_hidden()
    assert TOKEN == window.page.evaluate("localStorage.getItem('ComfyPreload.Token')")
    assert TOKEN not in window.page.evaluate(
        "window.app.api.fetchApi('/settings').then(answer => answer.text())"
    )
    window.button(WAKE).click()
    window.wait("Degraded")
    window.page.set_extra_http_headers({})
    window.page.evaluate("localStorage.removeItem('ComfyPreload.Token')")
    window.errors[:] = [error for error in window.errors if "401" not in error]


def test_hundred_models(server: ComfyServer, window: Window) -> None:
    """All are there; one can be found by name; scroll and focus stay when rows change."""
    write(server, MANY)
    window.button(RELOAD).click()
    rows = window.panel.locator(".cp-model")
    window.wait_until(lambda: rows.count() == 100, "showing them all", deadline=30)
    window.wait("Ready")
    assert "Models (100)" in window.panel.inner_text()

    button = window.button("Release model-060 from memory")
    button.focus()
    before = (button.bounding_box() or {})["y"]
    assert 0 < before < 860, "scrolled to it"
    carry_out(server, "release", "model-059")
    window.wait_until(lambda: window.state("model-059") == "released", "released")
    assert "Release model-060 from memory" == focused(window)
    assert abs(before - (button.bounding_box() or {})["y"]) < 5

    window.panel.get_by_role("searchbox").fill("059")
    assert ["model-059"] == [row.get_attribute("data-key") for row in rows.all()]
    window.panel.get_by_role("searchbox").fill("")
    assert 100 == rows.count()
    write(server, PRELOAD)
    carry_out(server, "reload")
    window.wait("Degraded")


def test_push(server: ComfyServer, window: Window) -> None:
    """The websocket event `comfy_preload.changed` makes the page ask at once, also with the panel closed."""
    window.page.click(TAB)
    asked: list[str] = []
    window.page.wait_for_timeout(1000)
    window.page.on(
        "request", lambda request: asked.append(request.url) if request.url.endswith("/preload") else None
    )
    assert 200 == server.post("/test/push").status
    window.wait_until(lambda: bool(asked), "asking", deadline=2)
    window.open_panel()


def test_jobs_are_pushed(server: ComfyServer, window: Window) -> None:
    """With the panel closed the page asks every 15 s; a job of somebody else's makes it ask at once."""
    needs_server_side(server)
    window.page.click(TAB)
    window.page.wait_for_timeout(1000)
    asked: list[str] = []
    window.page.on(
        "request", lambda request: asked.append(request.url) if request.url.endswith("/preload") else None
    )
    carry_out(server, "sleep")
    window.wait_until(lambda: bool(asked), "asking", deadline=2)
    carry_out(server, "wake")
    window.open_panel()
    window.wait("Degraded")


def test_this_workflow(server: ComfyServer, window: Window) -> None:
    """The lines for the loaders of the open graph, to be copied, or added to preload.yaml.

    Then reload takes them.
    """
    needs_server_side(server)
    graph = prompts.image(vae="taesd3")
    window.page.evaluate("graph => window.app.loadApiJson(graph, 'portrait')", graph)
    window.call("ComfyPreload.Entries")
    dialog = window.page.get_by_role("dialog", name="preload.yaml entries for this workflow")
    dialog.get_by_text("Put these lines under").wait_for()
    picture(IMAGES / "entries.png", dialog)
    text = dialog.get_by_role("textbox").input_value()
    assert "- clip: clip_l.safetensors\n  type: sd3\n" == text, "the others are listed already"
    dialog.get_by_role("button", name="Copy").click()
    dialog.get_by_text("Copied").wait_for()
    assert text == window.page.evaluate("navigator.clipboard.readText()")
    dialog.get_by_role("button", name="Add to preload.yaml").click()
    dialog.get_by_text("Added.").wait_for()
    assert "  - clip: clip_l.safetensors\n    type: sd3\n" in (server.base / "preload.yaml").read_text(
        encoding="utf-8"
    )
    window.page.keyboard.press("Escape")
    dialog.wait_for(state="detached")
    assert ["clip_l"] == carry_out(server, "reload")["loaded"]
    window.call("ComfyPreload.Entries")
    dialog.get_by_text("all are listed already").wait_for()
    window.page.keyboard.press("Escape")
    dialog.wait_for(state="detached")
    write(server, PRELOAD)
    carry_out(server, "reload")
    window.wait("Degraded")


def test_menus(window: Window) -> None:
    """The command "Preload this workflow" stands in the canvas's menu and in that of loader nodes."""
    menu = "menu => menu.map(item => item?.content)"
    assert "Preload this workflow" in window.page.evaluate(
        f"({menu})(window.app.collectCanvasMenuItems(window.app.canvas))"
    )
    script = f"""() => {{
        const items = (type) => ({menu})(window.app.collectNodeMenuItems(window.LiteGraph.createNode(type)));
        return [items("VAELoader"), items("VAEDecode")];
    }}"""
    loader, other = window.page.evaluate(script)
    assert "Preload this workflow" in loader
    assert "Preload this workflow" not in other
    commands = window.page.evaluate("window.app.extensionManager.command.commands.map(c => [c.id, c.label])")
    assert ["ComfyPreload.Entries", "Preload this workflow"] in commands


def test_this_workflow_where_the_server_cannot_tell(window: Window) -> None:
    """The dialog says what to do instead, if this version of the plugin has no `POST /preload/entries`."""
    window.page.route("**/preload/entries", lambda route: route.fulfill(status=405, body=""))
    window.button(ENTRIES).click()
    dialog = window.page.get_by_role("dialog", name="preload.yaml entries for this workflow")
    dialog.get_by_text("list its file under").wait_for()
    window.page.keyboard.press("Escape")
    dialog.wait_for(state="detached")
    window.page.unroute("**/preload/entries")
    window.errors[:] = [error for error in window.errors if "405" not in error]


def test_server_restarts(server: ComfyServer, window: Window) -> None:
    """While it is away the panel says so and keeps what it knew.

    When it is back, so is the panel, by itself.
    """
    server.stop()
    window.panel.get_by_text("The server does not answer").wait_for()
    assert "resident" == window.state("tiny")
    server.start()
    server.wait_listening()
    window.wait_until(
        lambda: not window.panel.get_by_text("The server does not answer").is_visible(), "connected again"
    )
    window.wait("Degraded")
    window.errors[:] = [error for error in window.errors if "net::ERR" not in error]
