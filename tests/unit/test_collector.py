"""The garbage collector is off while ComfyUI imports, and never stays off."""

from __future__ import annotations

import gc
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
    pause = CollectorPause()
    pause.begin()
    timer = pause._timer  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] — to wait for it
    assert timer is not None
    timer.join(30)

    assert gc.isenabled()


def test_left_alone() -> None:
    """Whoever switched it off before keeps it off."""
    gc.disable()
    pause = CollectorPause()
    pause.begin()
    pause.end()

    assert not gc.isenabled()
