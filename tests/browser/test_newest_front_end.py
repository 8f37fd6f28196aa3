"""The panel in the newest front end from PyPI, beside the one that ComfyUI pins.

`make setup` puts it into .host/front_end.
"""

from __future__ import annotations

import pytest

from tests.browser.conftest import Comfy
from tests.support import prompts
from tests.support.browser import Window
from tests.support.comfy import ComfyServer
from tools.host import FRONT_END

PRELOAD = """
models:
  - unet: tiny.safetensors
  - vae: taesd3
  - unet: gone.safetensors
"""
SLEEP = "Move all models from the device to main memory"
WAKE = "Move all models back to the device"

pytestmark = pytest.mark.skipif(not FRONT_END.is_dir(), reason="no newest front end: `make setup`")


@pytest.fixture(scope="module")
def server(module_comfy: Comfy) -> ComfyServer:
    return module_comfy(preload=PRELOAD, args=["--front-end-root", str(FRONT_END)])


def test_wakes_while_failed(server: ComfyServer, window: Window) -> None:
    """Sleep and Wake are one button, and it works although a required model failed."""
    window.wait("Failed")
    assert "failed" == window.state("gone")
    window.button(SLEEP).click()
    window.wait_until(lambda: window.state("tiny") == "evicted", "off the device")
    window.button(WAKE).click()
    window.wait_until(lambda: window.state("tiny") == "resident", "on the device again")
    assert "failed" == server.get("/ready").json["status"]


def test_this_workflow(window: Window) -> None:
    """The dialog lists the loader of the open graph that the file does not list."""
    window.page.evaluate("graph => window.app.loadApiJson(graph, 'portrait')", prompts.image())
    window.call("ComfyPreload.Entries")
    dialog = window.page.get_by_role("dialog", name="preload.yaml entries for this workflow")
    dialog.get_by_text("Put these lines under").wait_for()
    assert "- clip: clip_l.safetensors" in dialog.get_by_role("textbox").input_value()
    window.page.keyboard.press("Escape")
    dialog.wait_for(state="detached")


def test_nothing_sticks_out(window: Window) -> None:
    """At the least width of the sidebar too."""
    window.page.evaluate("document.querySelector('.cp-panel').style.width = '190px'")
    window.wait_for_animations()
    assert window.panel.evaluate("panel => panel.scrollWidth <= panel.clientWidth")
