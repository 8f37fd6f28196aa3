"""Is this replica ready, and if not, why not and for how long: asked anew at each question.

Owns the phase of the preload and what overrides it. Where models are comes from residency and ComfyUI.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from comfy_preload.core.errors import Problem, is_unrecoverable, problem, without_paths
from comfy_preload.core.host import NOWHERE, HostFacts, Outputs, Placement
from comfy_preload.core.log import log
from comfy_preload.core.machine.prefetch import PrefetchProgress
from comfy_preload.core.state.jobs import Jobs
from comfy_preload.core.state.residency import Residency, Slot, Stage
from comfy_preload.core.state.snapshot import (
    MOVES,
    Model,
    ModelState,
    Overrides,
    Phase,
    Progress,
    Snapshot,
    Status,
    WarmUp,
    judge,
)


class Readiness:
    """The phase, moved by the preloader; everyone else takes snapshots."""

    def __init__(
        self,
        residency: Residency,
        placement: Callable[[Outputs], Placement],
        *,
        serve: bool = False,
        queue_remaining: Callable[[], int] = int,
        changed: Callable[[], None] = lambda: None,
        prefetch: Callable[[], PrefetchProgress | None] = lambda: None,
    ) -> None:
        self.phase = Phase.STARTING
        self.problems: tuple[Problem, ...] = ()
        self.overdue: Problem | None = None
        """Set while loading takes longer than allowed: what models not yet loaded are failed by."""
        self.fault: Problem | None = None
        """Latches: set once, by an error that the device does not recover from."""
        self.draining = False
        """Latches: the process was told to end."""
        self.host: HostFacts | None = None
        self.warmups: tuple[WarmUp, ...] = ()
        self.jobs = Jobs()
        self._residency = residency
        self._placement = placement
        self.serve = serve
        self._queue_remaining = queue_remaining
        self._prefetch = prefetch
        self.changed = changed
        """To be called when there is something new to tell."""
        self._began = self._ended = 0.0
        self._seen: tuple[Status, float] = (Status.STARTING, time.time())

    @classmethod
    def idle(cls) -> Readiness:
        """Return one without models: nothing is known yet, or there is nothing to preload."""
        return cls(Residency(repair=lambda _: None, usable=lambda _: ""), placement=lambda _: NOWHERE)

    def move(self, to: Phase) -> None:
        """The only way the phase changes. Raises ValueError for a move that MOVES does not list."""
        if to not in MOVES[self.phase]:
            raise ValueError(f"{self.phase.value} -> {to.value} is no legal move")
        if to is Phase.LOADING:
            self._began = time.monotonic()
        if to is Phase.SETTLED and not self._ended:
            self._ended = time.monotonic()
            self.overdue = None
        self.phase = to
        self.changed()

    def blame(self, error: type[BaseException] | str, reason: str) -> None:
        """Latch the fault if this error is one that the device does not recover from."""
        name = error if isinstance(error, str) else f"{error.__module__}.{error.__qualname__}"
        if self.fault is None and is_unrecoverable(name, reason):
            self.fault = problem("device_fault", reason=without_paths(reason))
            log.critical("%s", self.fault)

    def look(self) -> None:
        """Count the models that ComfyUI moved off their device since the last look. Called now and then."""
        for slot in self._residency.slots:
            there = slot.loaded is not None and fully_there(self._placement(slot.loaded.outputs))
            slot.evictions += slot.loaded is not None and slot.seen_there and not there
            slot.seen_there = there
            slot.was_resident |= there

    def snapshot(self) -> Snapshot:
        """No lock, no disk, no device: safe in a request handler."""
        residency = self._residency
        models = tuple(self._row(slot) for slot in residency.slots)
        overrides = Overrides(self.overdue is not None, self.serve, self.fault is not None, self.draining)
        status, serves = judge(self.phase, models, self.warmups, self.problems, overrides)
        if status is not self._seen[0]:
            self._seen = (status, time.time())
        return Snapshot(
            status=status,
            serves=serves,
            since=self._seen[1],
            progress=self._progress(),
            models=models,
            problems=self.problems,
            misses=dict(residency.misses),
            host=self.host,
            prefetch=self._prefetch(),
            warmups=self.warmups,
            fault=self.fault,
            jobs=self.jobs.all(),
            queue_remaining=self._queue_remaining(),
        )

    def _row(self, slot: Slot) -> Model:
        loaded, call = slot.loaded, slot.call
        at = self._placement(loaded.outputs) if loaded else NOWHERE
        state, problems = self._state(slot, at)
        return Model(
            name=call.name,
            kind=call.kind,
            loader=call.loader,
            required=call.required,
            state=state,
            device=(at.device or None) if call.device == "gpu" else "cpu",
            bytes=at.bytes or slot.file_bytes,
            bytes_on_device=at.bytes_on_device,
            read_seconds=slot.read_seconds,
            load_seconds=loaded.seconds if loaded else None,
            warm_seconds=slot.warm_seconds,
            hits=slot.hits,
            evictions=slot.evictions,
            problems=problems,
        )

    def _state(self, slot: Slot, at: Placement) -> tuple[ModelState, tuple[Problem, ...]]:
        if slot.stage is Stage.FAILED:
            return ModelState.FAILED, slot.problems
        if slot.loaded is None:
            if self.overdue is not None:
                return ModelState.FAILED, (self.overdue,)
            return ModelState(slot.stage.value), ()
        there = slot.call.device == "ram" or fully_there(at)
        if slot.warm_seconds is not None and (
            there or at.dynamic
        ):  # with dynamic VRAM the forward pass is all one can know of
            return ModelState.WARM, ()
        if there:
            return ModelState.RESIDENT, ()
        return (ModelState.EVICTED if slot.was_resident else ModelState.STAGED), ()

    def _progress(self) -> Progress:
        wanted = [slot for slot in self._residency.slots if not slot.call.problems]
        done = [slot for slot in wanted if slot.stage in (Stage.LOADED, Stage.FAILED)]
        total = sum(slot.file_bytes for slot in wanted)
        so_far = sum(slot.file_bytes for slot in done)
        settled = self.phase in (Phase.SETTLED, Phase.SLEEPING)
        share = so_far / total if total else len(done) / len(wanted) if wanted else 0.0
        seconds = (self._ended or time.monotonic()) - self._began if self._began else 0.0
        eta = seconds / share - seconds if share else None
        return Progress(
            bytes=so_far,
            bytes_total=total,
            fraction=1.0 if settled else round(share, 4),
            seconds=round(max(0.0, seconds), 3),
            eta=0.0 if settled else None if eta is None else round(eta, 1),
        )


def fully_there(at: Placement) -> bool:
    """All weights on the device. ComfyUI does not count some small buffers: 1 % is allowed."""
    return at.bytes_on_device >= 0.99 * at.bytes
