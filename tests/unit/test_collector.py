"""The garbage collector is off while ComfyUI imports, never stays off, and then leaves imports out."""

from __future__ import annotations

import gc
import time
import weakref
from collections.abc import Iterator

import pytest

from comfy_preload.boot import collector
from comfy_preload.boot.collector import CollectorPause


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """The tests' own collector stays on."""
    yield
    gc.enable()
    gc.unfreeze()


def test_off_and_on_again() -> None:
    """It is on again afterwards, also when that is asked for twice."""
    pause = CollectorPause()
    pause.begin()
    assert not gc.isenabled()
    pause.end()
    pause.end()

    assert gc.isenabled()
    assert 0 == gc.get_freeze_count(), "nothing is left out of later collections unless asked for"


def test_comes_back_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """If ComfyUI never gets to open its port, the collector comes back after LIMIT."""
    monkeypatch.setattr(collector, "LIMIT", 0.01)
    CollectorPause().begin()
    for _ in range(6000):
        if gc.isenabled():
            break
        time.sleep(0.01)

    assert gc.isenabled()


def test_left_alone() -> None:
    """A user who switched it off before keeps it off."""
    gc.disable()
    pause = CollectorPause()
    pause.begin()
    pause.end()

    assert not gc.isenabled()


class Ring:
    """Refers to itself, as a model does: only the collector frees it."""

    def __init__(self) -> None:
        self.me = self


def test_imports_are_kept() -> None:
    """What lived then is not walked again; what comes later is collected."""
    pause = CollectorPause()
    pause.begin()
    before = weakref.ref(Ring())
    pause.keep_imports()
    after = weakref.ref(Ring())
    pause.end()
    gc.collect()

    assert before() is not None
    assert after() is None
    assert gc.get_freeze_count() > 10_000


def test_nothing_is_kept_without_a_pause() -> None:
    """With nothing to preload, and where a user has switched the collector off, it is left alone."""
    CollectorPause().keep_imports()
    gc.disable()
    pause = CollectorPause()
    pause.begin()
    pause.keep_imports()

    assert 0 == gc.get_freeze_count()
