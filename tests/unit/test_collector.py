"""The garbage collector is off while ComfyUI imports, and never stays off."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterator

import pytest

from comfy_preload.boot import collector
from comfy_preload.boot.collector import CollectorPause


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """The tests' own collector stays on."""
    yield
    gc.unfreeze()
    gc.enable()


def test_off_and_on_again() -> None:
    """What was made meanwhile is left out of later collections."""
    pause = CollectorPause()
    pause.begin()
    assert not gc.isenabled()
    pause.end()
    pause.end()

    assert gc.isenabled()
    assert gc.get_freeze_count() > 0


def test_comes_back_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """If ComfyUI never gets to open its port, the collector comes back after LIMIT."""
    monkeypatch.setattr(collector, "LIMIT", 0.01)
    came_back = threading.Event()
    monkeypatch.setattr(gc, "freeze", came_back.set)
    CollectorPause().begin()

    assert came_back.wait(60)
    while not gc.isenabled():
        time.sleep(0.01)


def test_left_alone() -> None:
    """Whoever switched it off before keeps it off."""
    gc.disable()
    pause = CollectorPause()
    pause.begin()
    pause.end()

    assert not gc.isenabled()
