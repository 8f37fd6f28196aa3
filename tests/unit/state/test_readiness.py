"""The verdict, from what is loaded and what failed."""

from __future__ import annotations

import time
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from comfy_preload.core.errors import Problem, problem
from comfy_preload.core.host import NOWHERE, Placement
from comfy_preload.core.planning.call import LoaderCall
from comfy_preload.core.settings.entry import Entry
from comfy_preload.core.state import readiness as readiness_module
from comfy_preload.core.state.readiness import Readiness
from comfy_preload.core.state.residency import Residency
from comfy_preload.core.state.slot import Loaded, Slot, Stage
from comfy_preload.core.state.snapshot import MOVES, ModelState, Phase, Status

OVERDUE = problem("timeout", expected="600")
BROKEN = problem("file_empty", file="x")
HERE = Placement(100, {"cuda:0": 100}, dynamic=False)
PART = Placement(100, {"cuda:0": 50}, dynamic=False)
GONE = Placement(100, {"cuda:0": 0}, dynamic=False)
STAGED = Placement(100, {"cuda:0": 0}, dynamic=True)


def slot(name: str = "a", stage: Stage = Stage.PENDING, *, at: Placement = HERE, **fields: Any) -> Slot:
    """One model; as its outputs it has the place where it is."""
    of_call = {k: fields.pop(k) for k in ("required", "device") if k in fields}
    problems = fields.pop("problems", ())
    call = LoaderCall(Entry(name, "vae", "L", {}, line=2, **of_call), problems=problems)
    made = Slot(call, stage=stage, **{"file_bytes": 100, **fields})
    made.loaded = Loaded(at, (), 1.5) if stage is Stage.LOADED else None
    made.problems = (BROKEN,) if stage is Stage.FAILED else ()
    return made


def readiness(
    *slots: Slot, phase: Phase = Phase.STARTING, serve: bool = False, problems: tuple[Problem, ...] = ()
) -> Readiness:
    residency = Residency(repair=lambda _: None, usable=lambda _: "", slots=slots)
    made = Readiness(residency, lambda outputs: outputs, serve=serve)
    made.fail(*problems)
    for step in _WAY[phase]:
        made.move(step)
    return made


_WAY: dict[Phase, tuple[Phase, ...]] = {
    Phase.STARTING: (),
    Phase.LOADING: (Phase.LOADING,),
    Phase.WARMING: (Phase.LOADING, Phase.WARMING),
    Phase.SETTLED: (Phase.LOADING, Phase.SETTLED),
    Phase.SLEEPING: (Phase.SETTLED, Phase.SLEEPING),
}
"""A legal way to each phase."""


@pytest.mark.parametrize(
    ("start", "to"),
    [pytest.param(a, b, id=f"{a.value}-{b.value}") for a in Phase for b in Phase if b not in MOVES[a]],
)
def test_illegal_move(start: Phase, to: Phase) -> None:
    """A phase never goes back, but for waking up."""
    stands = readiness(phase=start)

    with pytest.raises(ValueError, match=f"{start.value} -> {to.value} is not a legal move"):
        stands.move(to)
    assert start is stands.phase


def test_nothing_to_load() -> None:
    """With nothing to load the phase ends without loading."""
    stands = readiness()
    stands.move(Phase.SETTLED)

    assert (Status.READY, 1.0, 0.0) == (
        stands.snapshot().status,
        stands.snapshot().progress.fraction,
        stands.snapshot().progress.eta,
    )


@pytest.mark.parametrize(
    ("made", "state"),
    [
        pytest.param(slot(), ModelState.PENDING, id="pending"),
        pytest.param(slot(stage=Stage.READING), ModelState.READING, id="reading"),
        pytest.param(slot(stage=Stage.LOADING), ModelState.LOADING, id="loading"),
        pytest.param(slot(stage=Stage.FAILED), ModelState.FAILED, id="failed"),
        pytest.param(slot(stage=Stage.LOADED), ModelState.RESIDENT, id="on-the-device"),
        pytest.param(slot(stage=Stage.LOADED, at=PART), ModelState.STAGED, id="half-there"),
        pytest.param(slot(stage=Stage.LOADED, at=GONE), ModelState.STAGED, id="not-yet-there"),
        pytest.param(slot(stage=Stage.LOADED, at=GONE, was_resident=True), ModelState.EVICTED, id="evicted"),
        pytest.param(
            slot(stage=Stage.LOADED, at=HERE, was_resident=True), ModelState.RESIDENT, id="came-back"
        ),
        pytest.param(
            slot(stage=Stage.LOADED, at=GONE, device="ram"), ModelState.RESIDENT, id="at-home-in-ram"
        ),
        pytest.param(slot(stage=Stage.LOADED, at=NOWHERE), ModelState.RESIDENT, id="not-managed-by-comfyui"),
        pytest.param(slot(stage=Stage.LOADED, at=HERE, warm_seconds=2.0), ModelState.WARM, id="warm"),
        pytest.param(
            slot(stage=Stage.LOADED, at=GONE, was_resident=True, warm_seconds=2.0),
            ModelState.EVICTED,
            id="was-warm",
        ),
        pytest.param(slot(stage=Stage.LOADED, at=STAGED), ModelState.STAGED, id="dynamic-vram"),
        pytest.param(
            slot(stage=Stage.LOADED, at=PART, warm_seconds=2.0, warm_bytes=50),
            ModelState.WARM,
            id="as-warm-as-ever",
        ),
        pytest.param(
            slot(stage=Stage.LOADED, at=STAGED, warm_seconds=2.0, warm_bytes=50, was_resident=True),
            ModelState.EVICTED,
            id="warm-then-gone",
        ),
        pytest.param(slot(stage=Stage.RELEASED), ModelState.RELEASED, id="released"),
    ],
)
def test_state(made: Slot, state: ModelState) -> None:
    """A model's state comes from its stage and from where ComfyUI says its weights are."""
    assert state is readiness(made).snapshot().models[0].state


def test_time_is_over() -> None:
    """What is not loaded in time is failed by the timeout; what is loaded stays; the end clears it."""
    slots = (slot(stage=Stage.LOADED), slot("b", Stage.LOADING), slot("c"))
    stands = readiness(*slots, phase=Phase.LOADING)
    stands.overdue_by(OVERDUE)

    late = stands.snapshot()
    assert (Status.FAILED, {"b": (OVERDUE,), "c": (OVERDUE,)}) == (late.status, late.failing())
    for each in slots[1:]:
        each.loaded, each.stage = Loaded(HERE, (), 1.0), Stage.LOADED
    stands.move(Phase.SETTLED)
    assert (Status.READY, {}) == (stands.snapshot().status, stands.snapshot().failing())


def test_optional_one_is_late() -> None:
    """An optional model that is late does not end the waiting for the others."""
    stands = readiness(slot("a", Stage.LOADING, required=False), phase=Phase.LOADING)
    stands.overdue_by(OVERDUE)

    assert Status.LOADING is stands.snapshot().status


def test_since_changes_with_the_status_only() -> None:
    """`since` is when the status was first seen, however often it is asked and whatever else changes."""
    only = slot()
    stands = readiness(only)
    starting = stands.snapshot()
    only.hits = 5
    assert starting.since == stands.snapshot().since
    stands.move(Phase.LOADING)
    loading = stands.snapshot()
    assert starting.since < loading.since
    assert loading.since == stands.snapshot().since


def test_row() -> None:
    """A row reports the bytes in memory once there are any, before that those of the files."""
    stands = readiness(slot("a", file_bytes=70), slot("b", Stage.LOADED, at=PART, file_bytes=70, hits=3))
    a, b = stands.snapshot().models

    assert (70, 0, None, None) == (a.bytes, a.bytes_on_device, a.device, a.load_seconds)
    assert (100, 50, "cuda:0", 1.5, 3) == (b.bytes, b.bytes_on_device, b.device, b.load_seconds, b.hits)


def test_row_in_ram() -> None:
    """A model that stays in RAM is on the CPU, loaded or not."""
    stands = readiness(slot("a", device="ram"), slot("b", Stage.LOADED, at=GONE, device="ram"))

    assert ["cpu", "cpu"] == [m.device for m in stands.snapshot().models]


@pytest.mark.parametrize(
    ("stages", "size", "expected"),
    [
        pytest.param([Stage.PENDING, Stage.PENDING], 100, (0, 200, 0.0), id="nothing"),
        pytest.param([Stage.LOADED, Stage.LOADING], 100, (100, 200, 0.5), id="half"),
        pytest.param([Stage.LOADED, Stage.FAILED], 100, (200, 200, 1.0), id="failed-is-done"),
        pytest.param([Stage.LOADED, Stage.PENDING, Stage.PENDING], 0, (0, 0, 0.3333), id="no-files"),
        pytest.param([], 100, (0, 0, 0.0), id="no-models"),
    ],
)
def test_progress(stages: list[Stage], size: int, expected: tuple[int, int, float]) -> None:
    """Progress is counted in bytes of files, and in models where there are none."""
    stands = readiness(*(slot(str(i), s, file_bytes=size) for i, s in enumerate(stages)), phase=Phase.LOADING)
    progress = stands.snapshot().progress

    assert expected == (progress.bytes, progress.bytes_total, progress.fraction)


def test_progress_leaves_out_what_is_not_loaded() -> None:
    """A model that preflight refused is not work to be done."""
    refused = slot("b", Stage.FAILED, problems=(BROKEN,))

    assert 100 == readiness(slot(), refused, phase=Phase.LOADING).snapshot().progress.bytes_total


def test_eta(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time to go follows from the speed so far.

    While there is none, it is not known; at the end it is 0.
    """
    now = [100.0]
    monkeypatch.setattr(readiness_module, "time", SimpleNamespace(monotonic=lambda: now[0], time=time.time))
    first = slot()
    stands = readiness(first, slot("b"))
    assert (0.0, None) == (stands.snapshot().progress.seconds, stands.snapshot().progress.eta)
    stands.move(Phase.LOADING)
    assert stands.snapshot().progress.eta is None
    first.stage = Stage.FAILED
    now[0] += 10
    half = stands.snapshot().progress
    assert (10.0, 10.0) == (half.seconds, half.eta)
    stands.move(Phase.SETTLED)
    end = stands.snapshot().progress
    assert (1.0, 0.0) == (end.fraction, end.eta)
    assert end.seconds == stands.snapshot().progress.seconds


def test_misses_are_a_copy() -> None:
    """A snapshot does not change any more."""
    residency = Residency(repair=lambda _: None, usable=lambda _: "")
    stands = Readiness(residency, lambda outputs: outputs)
    before = stands.snapshot()
    residency.misses["L"] += 1

    assert ({}, {"L": 1}) == (before.misses, stands.snapshot().misses)


@pytest.mark.parametrize(
    ("on_device", "there"),
    [(1000, True), (990, True), (989, False), (0, False)],
    ids=["all", "99-percent", "less", "none"],
)
def test_is_there(on_device: int, there: bool) -> None:  # noqa: FBT001 — a column of the table
    """ComfyUI does not count some small buffers: 99 % is all."""
    at = Placement(1000, {"cuda:0": on_device}, dynamic=False)
    assert there is slot(stage=Stage.LOADED).is_there(at)


def test_look_counts_evictions() -> None:
    """Each time a model is found off its device where it was before.

    One that never was there is not counted.
    """
    places = {"a": HERE, "b": GONE}
    residency = Residency(repair=lambda _: None, usable=lambda _: "")
    residency.reset([slot("a", Stage.LOADED), slot("b", Stage.LOADED)])
    for made in residency.slots:
        made.loaded = Loaded(made.call.name, (), 1.0)
    stands = Readiness(residency, places.__getitem__)
    for at in (HERE, GONE, GONE, HERE, GONE):
        places["a"] = at
        stands.look()

    assert [2, 0] == [m.evictions for m in stands.snapshot().models]
    assert [ModelState.EVICTED, ModelState.STAGED] == [m.state for m in stands.snapshot().models]


def test_what_leaves_after_every_prompt_is_not_evicted() -> None:
    """Under `--disable-smart-memory` a model is seen on its device only while a prompt runs."""
    places = iter([HERE, GONE, HERE, GONE, GONE])
    residency = Residency(repair=lambda _: None, usable=lambda _: "")
    residency.reset([slot("a", Stage.LOADED)])
    residency.slots[0].loaded = Loaded("a", (), 1.0)
    stands = Readiness(residency, lambda _: replace(next(places), stays=False))
    for _ in range(4):
        stands.look()

    (row,) = stands.snapshot().models
    assert (0, ModelState.STAGED) == (row.evictions, row.state)


@pytest.mark.parametrize(
    ("error", "reason", "fault"),
    [
        (RuntimeError, "CUDA error: an illegal memory access was encountered", True),
        ("torch.AcceleratorError", "CUDA error: device-side assert triggered", True),
        ("torch.AcceleratorError", "CUDA error: uncorrectable ECC error encountered\nmore", True),
        ("torch.AcceleratorError", "HIP error: unspecified launch failure", True),
        ("torch.AcceleratorError", "CUDA error: out of memory", False),
        (
            "torch.OutOfMemoryError",
            "CUDA out of memory. Tried to allocate 2 GiB; illegal memory access",
            False,
        ),
        (ValueError, "CUDA error: an illegal memory access was encountered", False),
        (RuntimeError, "the text says CUDA error: illegal memory access", False),
        (RuntimeError, "CUDA error: no kernel image is available for execution on the device", False),
    ],
)
def test_blame(error: type[BaseException] | str, reason: str, fault: bool) -> None:  # noqa: FBT001 — a column of the table
    """Only what ends the CUDA context is a fault; it latches, and nothing but the first one is reported."""
    stands = readiness(slot(stage=Stage.LOADED), phase=Phase.SETTLED)
    stands.blame(error, reason)
    first = stands.snapshot().fault
    assert fault is (first is not None)
    stands.blame(RuntimeError, "CUDA error: misaligned address")
    now = stands.snapshot()

    assert (False, Status.FAILED, False) == (now.alive, now.status, now.serves)
    assert first in (None, now.fault)
