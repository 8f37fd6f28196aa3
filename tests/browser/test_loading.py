"""What the page shows while models are loaded in the background, and when that ends."""

from __future__ import annotations

import pytest

from tests.browser.conftest import Comfy
from tests.support.browser import Window
from tests.support.comfy import ComfyServer
from tests.support.readings import CUSTOM_NODES

PRELOAD = """
when: background
models:
  - unet: tiny.safetensors
  - {loader: TestGateLoader, inputs: {gate: open, heeds_cancel: true}, name: gate}
  - vae: taesd3
    required: false
"""


@pytest.fixture(scope="module")
def server(module_comfy: Comfy) -> ComfyServer:
    started = module_comfy(preload=PRELOAD, custom_nodes={"loaders": CUSTOM_NODES / "loaders"})
    started.wait(lambda: "waiting at gate open" in started.log, "at the gate")
    return started


def test_progress_then_the_table(server: ComfyServer, window: Window) -> None:
    """Progress in the panel and on the tab's icon.

    A hidden page does not ask; at the end a message, and where everything is.
    """
    window.wait("Loading")
    bar = window.panel.get_by_role("progressbar")
    assert 0 < int(bar.get_attribute("aria-valuenow") or 0) < 100
    assert " MB of " in (bar.get_attribute("aria-valuetext") or "")
    assert ["resident", "loading", "pending"] == [window.state(model) for model in ("tiny", "gate", "taesd3")]
    assert window.badge == bar.get_attribute("aria-valuenow")
    assert window.panel.locator("header [aria-live]").inner_text().startswith("Loading")
    assert window.button("Read preload.yaml again and load new and changed models").get_attribute(
        "aria-disabled"
    ), "too early"
    _hidden_page_is_quiet(window)

    (server.base / "input" / "open").touch()
    window.wait("Ready")
    window.toasts.filter(has_text="Preload: Ready").wait_for()
    assert bar.is_hidden()
    window.wait_until(lambda: window.state("taesd3") == "resident", "on the device")
    row = window.row("tiny")
    assert "3.2 MB" in row.inner_text()
    assert " of " not in row.inner_text()
    assert "100" == row.get_by_role("meter").get_attribute("aria-valuenow")
    assert "load 0." in (row.locator(".cp-details").text_content() or "")
    assert "hits 0" in (row.locator(".cp-details").text_content() or "")
    window.wait_until(lambda: window.badge == "", "without a sign on the icon")


def _hidden_page_is_quiet(window: Window) -> None:
    asked: list[str] = []
    window.page.on(
        "request", lambda request: asked.append(request.url) if request.url.endswith("/preload") else None
    )
    _pretend_hidden(window, "true")
    window.page.wait_for_timeout(100)
    asked.clear()
    window.page.wait_for_timeout(1500)
    assert [] == asked, "loading is asked for every 0.7 s by a page that is seen"
    _pretend_hidden(window, "false")
    window.wait_until(lambda: len(asked) > 1, "asking again")


def _pretend_hidden(window: Window, value: str) -> None:
    """Chromium without a screen has no tab to switch to."""
    script = f"Object.defineProperty(document, 'hidden', {{configurable: true, get: () => {value}}});"
    window.page.evaluate(f"{script} document.dispatchEvent(new Event('visibilitychange'))")
