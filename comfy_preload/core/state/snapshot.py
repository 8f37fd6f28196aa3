"""What there is to say at one moment: frozen, made by `readiness.py`, read by everyone else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from comfy_preload.core.errors import Problem
from comfy_preload.core.host import HostFacts
from comfy_preload.core.machine.prefetch import PrefetchProgress
from comfy_preload.core.planning.plan import LoaderCall
from comfy_preload.core.state.jobs import Job


class Phase(str, Enum):
    """What the preload is doing."""

    STARTING = "starting"
    LOADING = "loading"
    WARMING = "warming"
    SETTLED = "settled"
    SLEEPING = "sleeping"


MOVES: dict[Phase, frozenset[Phase]] = {
    Phase.STARTING: frozenset({Phase.LOADING, Phase.SETTLED}),
    Phase.LOADING: frozenset({Phase.WARMING, Phase.SETTLED}),
    Phase.WARMING: frozenset({Phase.SETTLED}),
    Phase.SETTLED: frozenset({Phase.SLEEPING}),
    Phase.SLEEPING: frozenset({Phase.SETTLED}),
}


class Status(str, Enum):
    """What `/ready` says."""

    STARTING = "starting"
    LOADING = "loading"
    WARMING = "warming"
    READY = "ready"
    DEGRADED = "degraded"
    """Something is missing; whether traffic is let in all the same is `Snapshot.serves`."""
    FAILED = "failed"
    SLEEPING = "sleeping"
    DRAINING = "draining"


class ModelState(str, Enum):
    """Where one model is."""

    PENDING = "pending"
    READING = "reading"
    LOADING = "loading"
    STAGED = "staged"
    RESIDENT = "resident"
    WARM = "warm"
    """Resident, and a warm-up ran it through once."""
    EVICTED = "evicted"
    FAILED = "failed"
    RELEASED = "released"

    @property
    def loaded(self) -> bool:
        """No file has to be read to use it."""
        return self in (ModelState.STAGED, ModelState.RESIDENT, ModelState.WARM, ModelState.EVICTED)


@dataclass(frozen=True)
class Model:
    """One planned call and its state now."""

    call: LoaderCall
    state: ModelState
    device: str | None
    bytes: int
    """Weights in memory; before that, the size of its files."""
    bytes_on_device: int
    read_seconds: float | None
    load_seconds: float | None
    warm_seconds: float | None
    hits: int
    evictions: int
    """How often it was found off its device, or was released because memory ran short."""
    problems: tuple[Problem, ...]

    @property
    def name(self) -> str:
        return self.call.name

    @property
    def required(self) -> bool:
        return self.call.entry.required


class WarmUpState(str, Enum):
    PENDING = "pending"
    RUNNING = "running"
    WARM = "warm"
    FAILED = "failed"


@dataclass(frozen=True)
class WarmUp:
    """A workflow that is run once before traffic, and how that went."""

    name: str
    required: bool = True
    state: WarmUpState = WarmUpState.PENDING
    seconds: float | None = None
    shapes: tuple[str, ...] = ()
    """What was run through, for reading: '1024x1024, batch 1, 1 step'."""
    dtypes: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()


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
    serves: bool
    """Let traffic in."""
    since: float
    """Unix time at which `status` was first seen."""
    progress: Progress
    models: tuple[Model, ...]
    problems: tuple[Problem, ...]
    """Of the whole settings file."""
    misses: dict[str, int]
    host: HostFacts | None
    prefetch: PrefetchProgress | None = None
    warmups: tuple[WarmUp, ...] = ()
    fault: Problem | None = None
    """The device cannot be used any more; only a new process can."""
    jobs: tuple[Job, ...] = ()
    queue_remaining: int = 0
    """Prompts that run or wait, without our jobs."""

    @property
    def alive(self) -> bool:
        return self.fault is None

    def failing(self) -> dict[str, tuple[Problem, ...]]:
        """By name of model or warm-up."""
        models = {m.name: m.problems for m in self.models if m.state is ModelState.FAILED}
        return models | {w.name: w.problems for w in self.warmups if w.state is WarmUpState.FAILED}

    def model(self, name: str) -> Model | None:
        return next((m for m in self.models if m.name == name), None)


@dataclass(frozen=True)
class Overrides:
    """What the verdict depends on beside the phase and the models."""

    late: bool = False
    """The time allowed for the preload is over."""
    serve: bool = False
    """`on_error: serve`: failures do not stop traffic."""
    faulty: bool = False
    draining: bool = False


def judge(
    phase: Phase,
    models: Sequence[Model],
    warmups: Sequence[WarmUp],
    problems: Sequence[Problem],
    overrides: Overrides = Overrides(),
) -> tuple[Status, bool]:
    """The verdict: status, and whether to let traffic in."""
    if overrides.draining or overrides.faulty:
        return Status.DRAINING if overrides.draining else Status.FAILED, False
    failed = [
        *(m for m in models if m.state is ModelState.FAILED),
        *(w for w in warmups if w.state is WarmUpState.FAILED),
    ]
    released = [m for m in models if m.state is ModelState.RELEASED]
    fatal = bool(problems) or any(item.required for item in failed)
    if phase not in (Phase.SETTLED, Phase.SLEEPING) and not (overrides.late and fatal):
        return Status(phase.value), False
    if fatal and not overrides.serve:
        return Status.FAILED, False
    if phase is Phase.SLEEPING:
        return Status.SLEEPING, False
    if problems or failed or released:
        whole = not fatal and not any(model.required for model in released)
        return Status.DEGRADED, whole or overrides.serve
    return Status.READY, True
