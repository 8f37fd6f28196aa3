"""Warm-ups by profile: limits, the budget, and first ÷ steady. The host runs what the test scripts."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import pytest

from comfy_preload.core.host import Failed
from comfy_preload.core.planning.expansion import Runs
from comfy_preload.core.planning.rows import Profile, WarmUp
from comfy_preload.core.state.readiness import Readiness
from comfy_preload.core.state.residency import Residency
from comfy_preload.core.state.snapshot import Phase, Status
from comfy_preload.stages.warm_up import WarmUps

TOO_LONG = Failed("", "", "it took too long", overtime=True)
STUCK = Failed("", "", "it took too long", overtime=True, stuck=True)
RAISED = Failed("3", "KSampler", "no", "RuntimeError")


@dataclass
class Scripted:
    """A host on which each run takes as long as the script says, by its own clock; cut off at its limit."""

    script: list[float | Failed]
    now: float = 0.0
    ran: list[tuple[str, bool]] = field(default_factory=list[tuple[str, bool]])
    """(shape, fresh) of each run."""

    async def run(self, prompt: Any, limit: float, _workflow: Any, *, fresh: bool = False) -> float | Failed:
        self.ran.append((prompt["1"]["class_type"], fresh))
        took = self.script.pop(0)
        if isinstance(took, Failed):
            self.now += limit if took.overtime else 0.5
            return took
        self.now += min(took, limit)
        return took if took <= limit else TOO_LONG

    def dtypes(self, _: Any) -> tuple[str, ...]:
        return ()

    def clock(self) -> float:
        return self.now


@dataclass
class Warmed:
    """Warm-ups on a scripted host, and what they report."""

    host: Any
    readiness: Readiness
    warm_ups: WarmUps
    problems: tuple[Any, ...] = ()
    """What `run` returned."""

    def states(self) -> dict[str, tuple[str, list[str]]]:
        """Return the state of each warm-up and of its profiles."""
        rows = self.readiness.snapshot().warmups
        return {row.name: (row.state.value, [one.state.value for one in row.profiles]) for row in rows}


def runs(name: str, *shapes: str, **options: Any) -> Runs:
    """Return the warm-up of a workflow with one prompt for each shape."""
    prompts: Any = tuple({"1": {"class_type": shape, "inputs": {}}} for shape in shapes)
    return Runs(WarmUp(name, profiles=tuple(map(Profile, shapes))), prompts, **options)


def prepared(*given: Runs, script: list[float | Failed]) -> Warmed:
    """Return them before they run."""
    host: Any = Scripted(script)
    residency = Residency(repair=lambda _: None, usable=lambda _: "")
    readiness = Readiness(residency, lambda outputs: outputs)
    readiness.move(Phase.LOADING)
    made = Warmed(host, readiness, WarmUps(host, residency, readiness, host.clock))
    made.warm_ups.take(given)
    return made


async def warmed(*given: Runs, script: list[float | Failed]) -> Warmed:
    """Run them."""
    made = prepared(*given, script=script)
    made.problems = await made.warm_ups.run()
    made.readiness.move(Phase.SETTLED)
    return made


async def test_budget_for_two_of_sixteen() -> None:
    """The third is cut off when the budget is used up, the others are left out, and all are named."""
    shapes = [f"s{number}" for number in range(16)]
    made = await warmed(runs("w", *shapes, budget=25), script=[10.0] * 16)
    now = made.readiness.snapshot()
    (row,) = now.warmups

    assert (3, 25) == (len(made.host.ran), made.host.now)
    assert ("warm", ["warm"] * 2 + ["skipped"] * 14) == made.states()["w"]
    assert ["warmup_left_out"] == [note.code for note in row.notes]
    assert "; ".join(shapes[2:]) in row.notes[0].message
    assert "25 s" in row.notes[0].message
    assert () == made.problems
    assert Status.READY is now.status


async def test_budget_for_none() -> None:
    """Degraded, with the reason; the next workflow has a budget of its own."""
    made = await warmed(runs("a", "s", budget=5), runs("b", "s", budget=5), script=[9.0, 3.0])
    now = made.readiness.snapshot()

    assert {"a": ("degraded", ["skipped"]), "b": ("warm", ["warm"])} == made.states()
    assert ["warmup_left_out"] == [one.code for one in now.degraded()["a"]]
    assert () == made.problems
    assert (Status.DEGRADED, True) == (now.status, now.serves)


async def test_limit_of_one() -> None:
    """What takes longer than its limit is cut off; the other profiles and workflows run."""
    made = await warmed(runs("a", "s", "t", limit=4), runs("b", "s"), script=[9.0, 3.0, 3.0])

    assert {"a": ("failed", ["failed", "warm"]), "b": ("warm", ["warm"])} == made.states()
    assert ["warmup_too_long"] == [one.code for one in made.problems]
    assert "(s)" in made.problems[0].message


async def test_one_that_never_ends() -> None:
    """Nothing is queued behind it: that would wait as long."""
    made = await warmed(runs("a", "s", "t"), runs("b", "s", verify=True), script=[STUCK])

    assert 1 == len(made.host.ran)
    assert {"a": ("failed", ["failed", "skipped"]), "b": ("degraded", ["skipped"])} == made.states()
    assert ["warmup_too_long"] == [one.code for one in made.problems]
    assert "does not end" in made.readiness.snapshot().degraded()["b"][0].message


@pytest.mark.parametrize(
    ("first", "steady", "state", "ratio"),
    [
        pytest.param(1.05, 1.0, "warm", 1.05, id="limit"),
        pytest.param(0.9, 1.0, "warm", 0.9, id="faster"),
        pytest.param(1.31, 1.0, "degraded", 1.31, id="slower"),
        pytest.param(0.0, 0.0, "warm", 1.0, id="no-time"),
    ],
)
async def test_acceptance(first: float, steady: float, state: str, ratio: float) -> None:
    """After all warm-ups, each profile runs twice more, without ComfyUI's cache."""
    made = await warmed(runs("a", "s", verify=True), runs("b", "t"), script=[5.0, 5.0, first, steady])
    now = made.readiness.snapshot()
    profile = now.warmups[0].profiles[0]

    assert [("s", False), ("t", False), ("s", True), ("s", True)] == made.host.ran
    assert (state, [state]) == made.states()["a"]
    assert (5.0, first, steady) == (profile.seconds, profile.first, profile.steady)
    assert math.isclose(ratio, profile.ratio or 0)
    assert () == made.problems
    assert (Status.READY if state == "warm" else Status.DEGRADED, True) == (now.status, now.serves)
    if state == "degraded":
        (wrong,) = now.degraded()["a"]
        assert ("warmup_unsteady", True) == (wrong.code, f"{ratio:.2f} times" in wrong.message)


async def test_acceptance_that_raises() -> None:
    """A measured run that raises fails the warm-up; the other profiles are measured."""
    made = await warmed(runs("a", "s", "t", verify=True), script=[1.0, 1.0, RAISED, 2.0, 2.0])

    assert ("failed", ["failed", "warm"]) == made.states()["a"]
    assert ["warmup_failed"] == [one.code for one in made.problems]


async def test_budget_ends_before_the_measurement() -> None:
    """The profile is warm, has no figures, and the note says that it was not measured."""
    made = await warmed(runs("a", "s", "t", verify=True, budget=10), script=[2.0, 2.0, 2.0, 2.0, 9.0])
    (row,) = made.readiness.snapshot().warmups

    assert ("warm", ["warm", "warm"]) == made.states()["a"]
    assert [1.0, None] == [one.ratio for one in row.profiles]
    assert "not measured: t" in row.notes[0].message


async def test_again() -> None:
    """A warm-up that is repeated after a wake is measured again, a degraded one too."""
    made = await warmed(runs("a", "s", verify=True), script=[5.0, 2.0, 1.0])
    assert ("degraded", ["degraded"]) == made.states()["a"]
    made.host.script = [5.0, 1.0, 1.0]
    await made.warm_ups.repeat()

    assert ("warm", ["warm"]) == made.states()["a"]
    assert {} == made.readiness.snapshot().degraded()


async def test_what_is_left() -> None:
    """Estimated from the runs so far; unknown before the first has ended."""
    made = prepared(runs("a", "s", "t", verify=True), script=[4.0, 2.0, 1.0, 1.0, 1.0, 1.0])
    plain = made.host.run
    seen: list[float | None] = []

    async def looking(*given: Any, **options: Any) -> Any:
        seen.append(made.readiness.snapshot().left)
        return await plain(*given, **options)

    made.host.run = looking
    await made.warm_ups.run()

    assert [None, 20.0, 12.0] == seen[:3]
