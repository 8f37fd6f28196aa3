"""Warm-ups by shape, and what models and workflows have served, in the panel."""

from __future__ import annotations

from typing import Any

import pytest

from tests.browser.conftest import Comfy
from tests.server.test_workflows import place
from tests.support import prompts
from tests.support.browser import Window
from tests.support.comfy import ComfyServer

PRELOAD = """
workflows:
  - {path: image.json, warmup: true, verify: true}
  - {path: other.json, warmup: true, shapes: [{width: 64, height: 128}]}
"""


@pytest.fixture(scope="module")
def server(module_comfy: Comfy, tmp_path_factory: pytest.TempPathFactory) -> ComfyServer:
    files: dict[str, Any] = {
        "preload.yaml": PRELOAD,
        "image.json": prompts.image(),
        "other.json": prompts.image(vae="taesd3"),
    }
    return module_comfy(env=place(tmp_path_factory.mktemp("settings"), files))


def row(window: Window, section: str, key: str) -> str:
    """Return the text of a row."""
    return window.panel.locator(f"ul[aria-labelledby='{section}'] > [data-key='{key}']").inner_text()


def test_shapes(window: Window) -> None:
    """Each shape of a warm-up, with first ÷ steady where it was measured; a model lists its own."""
    window.wait_until(lambda: "64x64, batch 1" in row(window, "cp-warmups", "image.json"), "warm")
    assert "first ÷ steady" in row(window, "cp-warmups", "image.json")
    assert "64x128, batch 1" in row(window, "cp-warmups", "other.json")
    assert "first ÷ steady" not in row(window, "cp-warmups", "other.json")

    window.row("tiny").get_by_role("button", name="tiny", exact=True).click()
    details = window.row("tiny").locator(".cp-details").inner_text()
    assert "warm for" in details
    assert "64x128, batch 1" in details


def test_served(server: ComfyServer, window: Window) -> None:
    """A prompt counts for its workflow, and for the models that it used."""
    assert 0 == window.panel.locator("ul[aria-labelledby='cp-served'] > li").count()
    for seed in (1, 2):
        server.run(prompts.image(seed=seed, text="a ship"))
    window.wait_until(lambda: "prompts 2" in row(window, "cp-served", "image.json"), "served")
    assert "median" in row(window, "cp-served", "image.json")
    details = window.row("tiny").locator(".cp-details")
    window.wait_until(lambda: "prompts 2" in details.inner_text(), "served")
