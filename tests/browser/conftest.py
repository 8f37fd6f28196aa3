"""Owns the servers and windows of the browser tests: one of each for all tests of a file.

Skipped where there is no Chromium.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.conftest import Comfy, models, module_comfy
from tests.support.browser import Window, chromium, open_window
from tests.support.comfy import ComfyServer

__all__ = ["Comfy", "models", "module_comfy"]
"""The first is a type; the others are fixtures, found here by pytest."""

HERE = Path(__file__).resolve().parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A browser is not part of Python: say what is missing instead of failing."""
    missing = "" if chromium() else "no chromium: `apt-get install chromium`, or name one in CHROMIUM"
    if not importlib.util.find_spec("playwright"):
        missing = "no playwright: `make setup`"
    for item in items:
        if missing and item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.skip(reason=missing))


@pytest.fixture(scope="module")
def window(server: ComfyServer) -> Iterator[Window]:
    """A page on the module's `server`, with the panel open."""
    with open_window(server) as opened:
        opened.open_panel()
        yield opened


@pytest.fixture(autouse=True)
def no_errors_of_ours(request: pytest.FixtureRequest) -> Iterator[None]:
    """No test leaves an error of ours in the console; one that means to cause some takes them out itself."""
    yield
    if "window" in request.fixturenames:
        assert [] == request.getfixturevalue("window").own_errors()
