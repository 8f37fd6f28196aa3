"""A preload that is held in its middle: `timeout` and the seconds of loading do not count the hold."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from comfy_preload.core.errors import Problem
from comfy_preload.core.machine.head_start import HeadStart
from comfy_preload.core.settings.document import parse
from comfy_preload.core.settings.validation import validate
from comfy_preload.core.state.jobs import JobState
from comfy_preload.core.state.snapshot import Hold, HoldResult, Status
from comfy_preload.core.state.startup import Startup
from comfy_preload.core.state.tally import Tally
from comfy_preload.preloader import Preloader
from tests.unit.test_reload import OneThread

SETTINGS = "timeout: 5\nsnapshot: {{when: {when}}}\nmodels: [{{vae: pixel_space}}{more}]"
DAY = 86_400.0


class Slow(OneThread):
    """Its jobs run at once, and are known to be over a little later."""

    def submit(self, job: Callable[[], Awaitable[None]], **_: Any) -> Future[None]:
        super().submit(job)
        later: Future[None] = Future()
        threading.Timer(0.05, later.set_result, [None]).start()
        return later


class Clock:
    """The real clock, and a jump."""

    def __init__(self) -> None:
        self._real = time.monotonic
        self.ahead = 0.0

    def __call__(self) -> float:
        return self._real() + self.ahead


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    """A clock that jumps, for the event loop too; and the signal handler of before."""
    before = signal.getsignal(signal.SIGTERM)
    jumping = Clock()
    monkeypatch.setattr(time, "monotonic", jumping)
    yield jumping
    signal.signal(signal.SIGTERM, before)


async def started(clock: Clock, when: str, result: HoldResult, more: str = "") -> tuple[Preloader, list[Any]]:
    """Preload with a hold of two days by the clock. Return what the hold was called with, too."""
    called: list[Any] = []

    async def hold(why_not: Problem | None) -> Hold | None:
        called.append(why_not)
        await asyncio.sleep(0.01)
        clock.ahead += DAY
        await asyncio.sleep(0.01)  # timers that are due now run
        clock.ahead += DAY  # those that are due now run after the hold
        restored = time.time() if result is HoldResult.RESTORED else None
        return Hold(when, "dynamo", result, jumped=DAY, restored=restored)

    settings = validate(parse(SETTINGS.format(when=when, more=more)))
    host: Any = Slow()
    preloader = Preloader(
        settings, host, lambda: settings, HeadStart(), Tally(), startup=Startup(), hold=hold
    )
    await preloader.start(None)
    return preloader, called


@pytest.mark.parametrize("when", ["loaded", "warm"])
async def test_resumed(clock: Clock, when: str) -> None:
    """As if nothing had been: ready, in seconds, without a job."""
    preloader, called = await started(clock, when, HoldResult.RESUMED)
    now = preloader.readiness.snapshot()

    assert [None] == called
    assert (Status.READY, (), ()) == (now.status, now.problems, now.jobs)
    assert now.progress.seconds < DAY / 2


@pytest.mark.parametrize("when", ["loaded", "warm"])
async def test_restored(clock: Clock, when: str) -> None:
    """The settings and files of this place are looked at once, by a job that keeps what is the same."""
    preloader, called = await started(clock, when, HoldResult.RESTORED)
    now = preloader.readiness.snapshot()
    (job,) = now.jobs

    assert [None] == called
    assert Status.READY is now.status
    assert ("restore", JobState.DONE, ("pixel_space",)) == (job.reason, job.state, job.kept)


async def test_failed_model(clock: Clock) -> None:
    """The hold gets the reason why not: it skips the announcement, and opens what is to be opened."""
    _, called = await started(clock, "loaded", HoldResult.SKIPPED, more=", {vae: nowhere}")

    assert ["snapshot_not_wanted"] == [why.code for why in called]


async def test_other_point(clock: Clock) -> None:
    """`imports` is over by then."""
    _, called = await started(clock, "imports", HoldResult.RESUMED)
    assert [] == called
