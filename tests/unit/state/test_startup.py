"""The stages of a start, by a clock that the test moves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from comfy_preload.core.planning.rows import WarmUp
from comfy_preload.core.state.readiness import Readiness
from comfy_preload.core.state.residency import Residency
from comfy_preload.core.state.slot import Slot, Stage
from comfy_preload.core.state.snapshot import Phase
from comfy_preload.core.state.startup import StartStage, Startup
from tests.support.snapshots import model


@dataclass
class Clock:
    """Seconds that the test sets."""

    now: float = 100.0

    def __call__(self) -> float:
        return self.now


def spent(startup: Startup) -> dict[str, float]:
    """Return the stages that took any time."""
    return {stage.value: seconds for stage, seconds in startup.read().seconds.items() if seconds}


def test_seconds_add_up() -> None:
    """One stage at a time, some of them twice; the seconds of the current one count too."""
    clock = Clock()
    startup = Startup(clock, age=2.0)
    for seconds, stage in (
        (1, StartStage.IMPORTING),
        (7, StartStage.LOADING),
        (0.5, StartStage.READING),
        (3, StartStage.LOADING),
        (4, StartStage.PUSHING),
        (1, StartStage.LOADING),
    ):
        clock.now += seconds
        startup.enter(stage)
    clock.now += 2

    assert {"starting": 3, "importing": 7, "loading": 6.5, "reading": 3, "pushing": 1} == spent(startup)
    assert StartStage.LOADING is startup.read().stage
    assert clock.now - 98 == sum(startup.read().seconds.values())


def test_held() -> None:
    """A hold, and the days until a restore, are no part of the start."""
    clock = Clock()
    startup = Startup(clock)
    startup.enter(StartStage.LOADING)
    clock.now += 3
    clock.now += 86_400
    startup.leave_out(86_400)
    clock.now += 1

    assert {"loading": 4.0} == spent(startup)


def test_over() -> None:
    """After the end nothing is added: a reload also loads and pushes."""
    clock = Clock()
    startup = Startup(clock)
    clock.now += 5
    startup.end()
    clock.now += 50
    startup.enter(StartStage.LOADING)
    clock.now += 50
    startup.end()

    assert (None, {"starting": 5}) == (startup.read().stage, spent(startup))


def test_clock_jumps_back() -> None:
    """A step back counts as no time, and takes none away."""
    clock = Clock()
    startup = Startup(clock, age=-5)
    startup.enter(StartStage.IMPORTING)
    clock.now += 4
    startup.enter(StartStage.LOADING)
    clock.now -= 60
    assert {"importing": 4} == spent(startup)
    startup.enter(StartStage.PUSHING)
    clock.now += 1

    assert {"importing": 4, "pushing": 1} == spent(startup)


@pytest.mark.parametrize(
    ("phases", "warm_up", "known"),
    [
        pytest.param((), False, False, id="importing"),
        pytest.param((Phase.LOADING,), False, True, id="loading"),
        pytest.param((Phase.LOADING,), True, False, id="a-warm-up-follows"),
        pytest.param((Phase.LOADING, Phase.WARMING), True, False, id="warming"),
    ],
)
def test_what_is_left(phases: tuple[Phase, ...], warm_up: bool, known: bool) -> None:  # noqa: FBT001 — a table's columns
    """While loading, the speed so far decides; 0 when the start is over; otherwise nobody knows."""
    residency = Residency(repair=lambda _: None, usable=lambda _: "")
    calls: list[Any] = [model("a").call, model("b").call]
    residency.reset(Slot.of(call, 100) for call in calls)
    residency.slots[0].stage = Stage.FAILED
    readiness = Readiness(residency, lambda outputs: outputs)
    readiness.show((WarmUp("w"),) if warm_up else ())
    for phase in phases:
        readiness.move(phase)

    assert known is (readiness.snapshot().left is not None)
    if readiness.phase is not Phase.STARTING:
        readiness.move(Phase.SETTLED)
        assert 0 == readiness.snapshot().left
