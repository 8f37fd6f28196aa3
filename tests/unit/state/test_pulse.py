"""The pulse: what counts as a blocked event loop, and what does not."""

from __future__ import annotations

import asyncio
import threading

import pytest

from comfy_preload.core.state.pulse import MAX_SILENT, MAX_SILENT_ALIVE, Pulse
from comfy_preload.core.state.readiness import Readiness
from comfy_preload.core.state.residency import Residency
from comfy_preload.core.state.snapshot import Phase, Snapshot, Status


def after(*events: str) -> Pulse:
    """Return the pulse after beats and counts, in that order."""
    pulse = Pulse()
    for event in events:
        pulse.beat() if event == "beat" else pulse.count()
    return pulse


def seen(pulse: Pulse) -> Snapshot:
    """Return the snapshot of a settled preload without models that has this pulse."""
    readiness = Readiness(
        Residency(repair=lambda _: None, usable=lambda _: ""), lambda outputs: outputs, pulse=pulse
    )
    readiness.move(Phase.SETTLED)
    return readiness.snapshot()


@pytest.mark.parametrize(
    ("events", "silent", "status", "alive"),
    [
        pytest.param((), 0, Status.READY, True, id="not-started"),
        pytest.param(("beat", "count") * 200, 0, Status.READY, True, id="beats"),
        pytest.param(("beat", "count", *["count"] * (MAX_SILENT - 1)), 9, Status.READY, True, id="9-s"),
        pytest.param(("beat", "count", *["count"] * MAX_SILENT), 10, Status.UNRESPONSIVE, True, id="10-s"),
        pytest.param(("beat", *["count"] * MAX_SILENT_ALIVE), 59, Status.UNRESPONSIVE, True, id="59-s"),
        pytest.param(("beat", *["count"] * 61), 60, Status.UNRESPONSIVE, False, id="60-s"),
        pytest.param(("beat", *["count"] * 500, "beat"), 0, Status.READY, True, id="runs-again"),
        pytest.param(("beat", *["count"] * 9, "beat", *["count"] * 9), 8, Status.READY, True, id="slow"),
    ],
)
def test_blocked_loop(events: tuple[str, ...], silent: int, status: Status, alive: bool) -> None:  # noqa: FBT001 — a table's column
    """Seconds without a beat are counted from the last beat.

    10 end readiness, 60 liveness, one beat ends both.
    """
    now = seen(after(*events))

    assert (silent, status, status is Status.READY, alive) == (
        now.loop_lag,
        now.status,
        now.serves,
        now.alive,
    )


def test_late_beat() -> None:
    """A beat that came late, since nothing of the process could run, is reported and is not a fault."""
    pulse = Pulse()
    pulse.beat(late=90.0)

    assert (90.0, Status.READY) == (pulse.lag, seen(pulse).status)
    pulse.beat(late=-0.1)
    assert 0.0 == pulse.lag


async def test_worker() -> None:
    """A prompt worker that has ended ends readiness and liveness at once.

    One that is not known is not judged.
    """
    end = threading.Event()
    worker = threading.Thread(target=end.wait)
    worker.start()
    pulse, unknown = Pulse(), Pulse()
    pulse.start(worker)
    unknown.start(None)

    assert (Status.READY, True) == (seen(pulse).status, seen(pulse).alive)
    end.set()
    worker.join()
    assert (Status.UNRESPONSIVE, False) == (seen(pulse).status, seen(pulse).alive)
    assert "prompt_worker_ended" == getattr(seen(pulse).fault, "code", None)
    assert Status.READY == seen(unknown).status


async def test_beats_from_the_loop() -> None:
    """The loop beats by itself, and the thread ends with the loop."""
    pulse = Pulse()
    pulse.start(None)
    for _ in range(5):
        pulse.count()
    for _ in range(600):
        if pulse.silent == 0:
            break
        await asyncio.sleep(0.05)

    assert 0 == pulse.silent
