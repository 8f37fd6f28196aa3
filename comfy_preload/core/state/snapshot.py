"""An immutable copy of the state at one moment: made by `readiness.py`, read by other rooms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from comfy_preload.core.errors import Problem
from comfy_preload.core.host import HostFacts
from comfy_preload.core.machine.prefetch import PrefetchProgress
from comfy_preload.core.planning.call import LoaderCall
from comfy_preload.core.planning.rows import NotPreloaded, WarmUp, WarmUpState
from comfy_preload.core.state.evidence import NOT_SERVED, PromptUse, Served, WorkflowUse
from comfy_preload.core.state.jobs import Job
from comfy_preload.core.state.startup import Stages
from comfy_preload.core.state.tally import Counted


class Phase(str, Enum):
    """The phase of the preload."""

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
    """The status of `/ready`. docs/glossary.md defines each."""

    STARTING = "starting"
    LOADING = "loading"
    WARMING = "warming"
    READY = "ready"
    DEGRADED = "degraded"
    """Something is missing; `Snapshot.serves` decides whether /ready is 200."""
    FAILED = "failed"
    SLEEPING = "sleeping"
    DRAINING = "draining"
    UNRESPONSIVE = "unresponsive"


class ModelState(str, Enum):
    """The state of one model. docs/glossary.md defines each."""

    PENDING = "pending"
    READING = "reading"
    LOADING = "loading"
    STAGED = "staged"
    RESIDENT = "resident"
    WARM = "warm"
    """A warm-up ran it, and what the warm-up left on the device is still there."""
    EVICTED = "evicted"
    FAILED = "failed"
    RELEASED = "released"

    @property
    def loaded(self) -> bool:
        """Return whether using it reads no file."""
        return self in (ModelState.STAGED, ModelState.RESIDENT, ModelState.WARM, ModelState.EVICTED)


@dataclass(frozen=True)
class Model:
    """One planned call and its current state."""

    call: LoaderCall
    state: ModelState
    device: str | None
    bytes: int
    """Size of its weights; before it is loaded, the size of its files."""
    by_device: Mapping[str, int]
    """Bytes that are on each device where its weights belong."""
    read_seconds: float | None
    load_seconds: float | None
    warm_seconds: float | None
    hits: int
    evictions: int
    """How often ComfyUI moved it off its device, or it was released because memory ran short."""
    problems: tuple[Problem, ...]
    served: Served = NOT_SERVED
    last_miss: str | None = None
    warm_for: tuple[str, ...] = ()
    """The sizes for which it is warm."""

    @property
    def name(self) -> str:
        return self.call.name

    @property
    def required(self) -> bool:
        return self.call.entry.required

    @property
    def bytes_on_device(self) -> int:
        return sum(self.by_device.values())


@dataclass(frozen=True)
class Progress:
    bytes: int
    bytes_total: int
    fraction: float
    seconds: float
    eta: float | None
    """Estimated seconds left at the speed so far; None while unknown."""


class HoldResult(str, Enum):
    """What became of the hold."""

    RESTORED = "restored"
    """This process is a restored copy."""
    RESUMED = "resumed"
    """This process was copied."""
    FAILED = "failed"
    """The provider reported an error."""
    UNANSWERED = "unanswered"
    SKIPPED = "skipped"
    """No copy was asked for, because it would have been of no use."""


@dataclass(frozen=True)
class Hold:
    """The wait, before the port opened, for a platform to copy this process."""

    when: str
    provider: str
    result: HoldResult
    seconds: float = 0.0
    """How long this process waited, without the time in which it was frozen."""
    jumped: float = 0.0
    """By how many seconds the clock jumped meanwhile: frozen, or restored later."""
    restored: float | None = None
    """Unix time of the restore."""
    problem: Problem | None = None


@dataclass(frozen=True)
class FreeMemory:
    """Bytes that can still be had, when the watchdog last looked; None while unknown."""

    host: int | None = None
    """Main memory. Container limits count, and page cache counts as free."""
    device: int | None = None
    """The compute device's own memory; None also where that is the main memory."""


@dataclass(frozen=True)
class Snapshot:
    """The whole state at one moment. Contains no path, token or environment variable."""

    status: Status
    serves: bool
    """Whether /ready is 200."""
    since: float
    """Unix time at which `status` was first seen."""
    progress: Progress
    models: tuple[Model, ...]
    problems: tuple[Problem, ...]
    """Problems of the whole settings file."""
    misses: dict[str, int]
    host: HostFacts | None
    prefetch: PrefetchProgress | None = None
    warmups: tuple[WarmUp, ...] = ()
    not_preloaded: tuple[NotPreloaded, ...] = ()
    fault: Problem | None = None
    """The error after which only a new process can serve."""
    unresponsive: Problem | None = None
    """Why no prompt can be served now: the event loop is blocked, or the prompt worker has ended."""
    loop_lag: float = 0.0
    """Seconds for which the event loop has not run."""
    jobs: tuple[Job, ...] = ()
    sleeping: bool = False
    """Whether `sleep` was the last of sleep and wake, whatever the status says besides."""
    queue_remaining: int = 0
    """Number of running and queued prompts, without our jobs."""
    prompts: tuple[PromptUse, ...] = ()
    """The last hundred prompts of users, newest last."""
    workflows: tuple[WorkflowUse, ...] = ()
    """What each workflow of the settings has served."""
    startup: Stages = field(default_factory=Stages)
    """The stages of this start."""
    left: float | None = None
    """Estimated seconds until the start is over; None while unknown."""
    free: FreeMemory = FreeMemory()
    counted: Counted = field(default_factory=Counted)
    """Counters and histograms of this process."""
    hold: Hold | None = None
    """The hold, if there was one."""

    @property
    def alive(self) -> bool:
        return self.fault is None

    def failing(self) -> dict[str, tuple[Problem, ...]]:
        """Return the problems of failed models and warm-ups, by name."""
        models = {m.name: m.problems for m in self.models if m.state is ModelState.FAILED}
        return models | {w.name: w.problems for w in self.warmups if w.state is WarmUpState.FAILED}

    def degraded(self) -> dict[str, tuple[Problem, ...]]:
        """Return the problems of warm-ups that did not make their workflow fast, by name."""
        return {w.name: w.problems for w in self.warmups if w.state is WarmUpState.DEGRADED}

    def model(self, name: str) -> Model | None:
        return next((m for m in self.models if m.name == name), None)


@dataclass(frozen=True)
class Overrides:
    """What `judge` depends on besides the phase, the models and the warm-ups."""

    late: bool = False
    """`timeout` has passed."""
    serve: bool = False
    """`on_error: serve`: failures do not stop traffic."""
    faulty: bool = False
    unresponsive: bool = False
    draining: bool = False

    def status(self) -> Status | None:
        """Return the status that holds whatever the models are, or None."""
        if self.draining:
            return Status.DRAINING
        if self.faulty:
            return Status.FAILED
        return Status.UNRESPONSIVE if self.unresponsive else None


def judge(
    phase: Phase,
    models: Sequence[Model],
    warmups: Sequence[WarmUp],
    problems: Sequence[Problem],
    overrides: Overrides = Overrides(),
) -> tuple[Status, bool]:
    """Return the status, and whether /ready is 200."""
    if overriding := overrides.status():
        return overriding, False
    failed = [
        *(m for m in models if m.state is ModelState.FAILED),
        *(w for w in warmups if w.state is WarmUpState.FAILED),
    ]
    missing = [m for m in models if not m.state.loaded and m.state is not ModelState.FAILED]
    fatal = bool(problems) or any(item.required for item in failed)
    if phase not in (Phase.SETTLED, Phase.SLEEPING) and not (overrides.late and fatal):
        return Status(phase.value), False
    if fatal and not overrides.serve:
        return Status.FAILED, False
    if phase is Phase.SLEEPING:
        return Status.SLEEPING, False
    slow = any(w.state is WarmUpState.DEGRADED for w in warmups)
    if problems or failed or missing or slow:
        whole = not fatal and not any(model.required for model in missing)
        return Status.DEGRADED, whole or overrides.serve
    return Status.READY, True
