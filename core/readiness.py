"""Is this replica ready, and if not, why not and for how long: asked anew at each question.

Owns the phase of the preload and nothing else. Where models are comes from residency and ComfyUI.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from . import prefetch
from .errors import Problem
from .host import NOWHERE, HostFacts, Outputs, Placement
from .prefetch import PrefetchProgress
from .residency import Residency, Slot, Stage


class Phase(str, Enum):
    """What the preload is doing."""

    STARTING = "starting"
    LOADING = "loading"
    SETTLED = "settled"


MOVES: dict[Phase, frozenset[Phase]] = {
    Phase.STARTING: frozenset({Phase.LOADING, Phase.SETTLED}),
    Phase.LOADING: frozenset({Phase.SETTLED}),
    Phase.SETTLED: frozenset(),
}


class Status(str, Enum):
    """What `/ready` says."""

    STARTING = "starting"
    LOADING = "loading"
    READY = "ready"
    DEGRADED = "degraded"
    FAILED = "failed"

    @property
    def serves(self) -> bool:
        return self in (Status.READY, Status.DEGRADED)


class ModelState(str, Enum):
    """Where one model is."""

    PENDING = "pending"
    READING = "reading"
    LOADING = "loading"
    STAGED = "staged"
    RESIDENT = "resident"
    EVICTED = "evicted"
    FAILED = "failed"

    @property
    def loaded(self) -> bool:
        """No file has to be read to use it."""
        return self in (ModelState.STAGED, ModelState.RESIDENT, ModelState.EVICTED)


@dataclass(frozen=True)
class Model:
    """One row of the answer."""

    name: str
    kind: str
    loader: str
    required: bool
    state: ModelState
    device: str | None
    bytes: int
    """Weights in memory; before that, the size of its files."""
    bytes_on_device: int
    read_seconds: float | None
    load_seconds: float | None
    hits: int
    problems: tuple[Problem, ...]


@dataclass(frozen=True)
class Progress:
    bytes: int
    bytes_total: int
    fraction: float
    seconds: float
    eta: float | None
    """Seconds to go at the speed so far; None while there is nothing to go by."""


@dataclass(frozen=True)
class Snapshot:
    """All there is to say at one moment. Holds no path, token or environment."""

    status: Status
    since: float
    """Unix time at which `status` was first seen."""
    progress: Progress
    models: tuple[Model, ...]
    problems: tuple[Problem, ...]
    """Of the whole settings file."""
    misses: dict[str, int]
    host: HostFacts | None
    prefetch: PrefetchProgress | None = None

    def failing(self) -> dict[str, tuple[Problem, ...]]:
        return {m.name: m.problems for m in self.models if m.state is ModelState.FAILED}

    def model(self, name: str) -> Model | None:
        return next((m for m in self.models if m.name == name), None)


def judge(phase: Phase, models: tuple[Model, ...], problems: tuple[Problem, ...], *, late: bool, serve: bool) -> Status:
    """The verdict. `late`: the time allowed is over. `serve`: failures do not stop traffic."""
    failed = [m for m in models if m.state is ModelState.FAILED]
    fatal = bool(problems) or any(m.required for m in failed)
    if phase is not Phase.SETTLED and not (late and fatal):
        return Status(phase.value)
    if fatal:
        return Status.DEGRADED if serve else Status.FAILED
    return Status.DEGRADED if failed else Status.READY


class Readiness:
    """The phase, moved by the preloader; everyone else takes snapshots."""

    def __init__(
        self,
        residency: Residency,
        placement: Callable[[Outputs], Placement],
        *,
        serve: bool = False,
    ) -> None:
        self.phase = Phase.STARTING
        self.problems: tuple[Problem, ...] = ()
        self.overdue: Problem | None = None
        """Set while loading takes longer than allowed: what models not yet loaded are failed by."""
        self.host: HostFacts | None = None
        self._residency = residency
        self._placement = placement
        self._serve = serve
        self._began = self._ended = 0.0
        self._seen: tuple[Status, float] = (Status.STARTING, time.time())

    def move(self, to: Phase) -> None:
        """The only way the phase changes. Raises ValueError for a move that MOVES does not list."""
        if to not in MOVES[self.phase]:
            raise ValueError(f"{self.phase.value} -> {to.value} is no legal move")
        if to is Phase.LOADING:
            self._began = time.monotonic()
        if to is Phase.SETTLED:
            self._ended = time.monotonic()
            self.overdue = None
        self.phase = to

    def snapshot(self) -> Snapshot:
        """No lock, no disk, no device: safe in a request handler."""
        residency = self._residency
        models = tuple(self._row(slot) for slot in residency.slots)
        late = self.overdue is not None
        status = judge(self.phase, models, self.problems, late=late, serve=self._serve)
        if status is not self._seen[0]:
            self._seen = (status, time.time())
        return Snapshot(
            status,
            self._seen[1],
            self._progress(),
            models,
            self.problems,
            dict(residency.misses),
            self.host,
            prefetch.running.progress() if prefetch.running else None,
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
            hits=slot.hits,
            problems=problems,
        )

    def _state(self, slot: Slot, at: Placement) -> tuple[ModelState, tuple[Problem, ...]]:
        if slot.stage is Stage.FAILED:
            return ModelState.FAILED, slot.problems
        if slot.loaded is None:
            if self.overdue is not None:
                return ModelState.FAILED, (self.overdue,)
            return ModelState(slot.stage.value), ()
        if slot.call.device == "ram" or fully_there(at):
            return ModelState.RESIDENT, ()
        return (ModelState.EVICTED if slot.was_resident else ModelState.STAGED), ()

    def _progress(self) -> Progress:
        wanted = [slot for slot in self._residency.slots if not slot.call.problems]
        done = [slot for slot in wanted if slot.stage in (Stage.LOADED, Stage.FAILED)]
        total = sum(slot.file_bytes for slot in wanted)
        so_far = sum(slot.file_bytes for slot in done)
        settled = self.phase is Phase.SETTLED
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
