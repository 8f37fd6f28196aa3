"""Compute whether this process is ready, and if not, why: again for each request.

Where models are is asked of residency and of ComfyUI.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from comfy_preload.core.errors import Problem, is_unrecoverable, problem
from comfy_preload.core.host import NOWHERE, HostFacts, Outputs, Placement
from comfy_preload.core.log import log
from comfy_preload.core.machine.prefetch import PrefetchProgress
from comfy_preload.core.planning.call import LoaderCall
from comfy_preload.core.planning.rows import WarmUp, WarmUpState
from comfy_preload.core.state.jobs import Command, Job, Jobs, JobState
from comfy_preload.core.state.pulse import Pulse
from comfy_preload.core.state.residency import Residency
from comfy_preload.core.state.slot import Slot, Stage
from comfy_preload.core.state.snapshot import (
    MOVES,
    FreeMemory,
    Model,
    ModelState,
    NotPreloaded,
    Overrides,
    Phase,
    Progress,
    Snapshot,
    Status,
    judge,
)
from comfy_preload.core.state.startup import StartStage, Startup
from comfy_preload.core.text import without_paths


class Readiness:
    """The phase of the preload and what overrides it. Read by others through snapshots."""

    def __init__(
        self,
        residency: Residency,
        placement: Callable[[Outputs], Placement],
        *,
        serve: bool = False,
        problems: tuple[Problem, ...] = (),
        queue_remaining: Callable[[], int] = int,
        announce: Callable[[], None] = lambda: None,
        prefetch: Callable[[], PrefetchProgress | None] = lambda: None,
        pulse: Pulse | None = None,
        startup: Startup | None = None,
    ) -> None:
        """Start in `Phase.STARTING`.

        Args:
            residency: The models.
            placement: Returns where the weights of a loader call's outputs are now.
            serve: True for `on_error: serve`: failures do not stop traffic.
            problems: Problems of the whole settings file.
            queue_remaining: Returns the number of running and queued prompts.
            announce: Called when the state has changed.
            prefetch: Returns the progress of the prefetch, if there is one.
            pulse: Judges the event loop and the prompt worker; without it neither is judged.
            startup: The stages of this start.
        """
        self._residency = residency
        self._placement = placement
        self._serve = serve
        self._problems = problems
        self._queue_remaining = queue_remaining
        self._prefetch = prefetch
        self._pulse = pulse or Pulse()
        self.startup = startup or Startup()
        self.free = FreeMemory()
        """Set by the watchdog."""
        self.announce = announce
        self._phase = Phase.STARTING
        self._overdue: Problem | None = None
        """Set after `timeout`: reported for every model that is not loaded in time."""
        self._fault: Problem | None = None
        """Permanent: set by the first error from which the device does not recover."""
        self._draining = False
        """Permanent: set by SIGTERM."""
        self._facts: HostFacts | None = None
        self._warmups: tuple[WarmUp, ...] = ()
        self._warmups_left: float | None = None
        self._left: tuple[NotPreloaded, ...] = ()
        self._jobs = Jobs()
        self._began = self._ended = 0.0
        self._seen: tuple[Status, float] = (Status.STARTING, time.time())

    @classmethod
    def idle(cls, startup: Startup) -> Readiness:
        """Return a readiness without models: the settings are not known yet, or list nothing."""
        nothing = Residency(repair=lambda _: None, usable=lambda _: "")
        return cls(nothing, placement=lambda _: NOWHERE, startup=startup)

    @property
    def phase(self) -> Phase:
        return self._phase

    @property
    def is_draining(self) -> bool:
        """SIGTERM came."""
        return self._draining

    @property
    def takes_commands(self) -> bool:
        """Return whether commands are accepted: the preload has ended and the process is not draining."""
        return self._phase in (Phase.SETTLED, Phase.SLEEPING) and not self._draining

    def move(self, to: Phase) -> None:
        """Change the phase. Raise ValueError for a move that MOVES does not list."""
        if to not in MOVES[self._phase]:
            raise ValueError(f"{self._phase.value} -> {to.value} is not a legal move")
        if to is Phase.LOADING:
            self._began = time.monotonic()
            self.startup.enter(StartStage.LOADING)
        if to is Phase.WARMING:
            self.startup.enter(StartStage.WARMING)
        if to is Phase.SETTLED:
            self.startup.end()
        if to is Phase.SETTLED and not self._ended:
            self._ended = time.monotonic()
            self._overdue = None
        self._phase = to
        self.announce()

    def leave_out(self, seconds: float) -> None:
        """Do not count these seconds as loading: the process was held, or frozen."""
        if self._began and not self._ended:
            self._began += seconds

    def begin_again(self) -> None:
        """Report the status as new: this process is a restored copy."""
        self._seen = (self._seen[0], time.time())

    def describe(self, facts: HostFacts) -> None:
        """Set the versions and the device to report."""
        self._facts = facts

    def fail(self, *problems: Problem) -> None:
        """Add problems of the whole preload."""
        self._problems = (*self._problems, *problems)

    def adopt(self, *, serve: bool) -> None:
        """Adopt the options of a settings file that was read again without problems."""
        self._serve = serve

    def leave(self, nodes: tuple[NotPreloaded, ...]) -> None:
        """Report from now on that these nodes of the workflows are not preloaded."""
        self._left = nodes

    def clear_problems(self) -> None:
        """Remove the problems of the settings file: a reload has replaced it."""
        self._problems = ()

    def overdue_by(self, problem: Problem) -> None:
        """Report `problem` for each model that is not loaded yet, until the preload ends."""
        self._overdue = problem

    def drain(self) -> None:
        """Report not ready from now on."""
        self._draining = True

    def show(self, warmups: tuple[WarmUp, ...], left: float | None = None) -> None:
        """Set the warm-ups to report. `left`: estimated seconds until the last has run; None: unknown."""
        self._warmups = warmups
        self._warmups_left = left

    def accept(self, job: Job) -> None:
        """Add a job to report. Call it on the event loop."""
        self._jobs.add(job)
        self.announce()

    def pending(self, command: Command, model: str | None) -> Job | None:
        """Return the unfinished job of the same command for the same model, or None."""
        return self._jobs.pending(command, model)

    def is_pending(self, command: Command) -> bool:
        """Return whether any job of this command is unfinished."""
        return any(job.command is command and not job.is_over for job in self._jobs.all())

    def blame(self, error: type[BaseException] | str, reason: str) -> None:
        """Set the fault if the device does not recover from this error."""
        name = error if isinstance(error, str) else f"{error.__module__}.{error.__qualname__}"
        if self._fault is None and is_unrecoverable(name, reason):
            self._fault = problem("device_fault", reason=without_paths(reason))
            log.critical("%s", self._fault)

    def look(self) -> None:
        """Count the models that left their device since the last call. Called by the watchdog."""
        if any(job.state is JobState.RUNNING for job in self._jobs.all()):
            return  # what a command moves was not evicted
        for slot in self._residency.slots:
            at = self._placement(slot.loaded.outputs) if slot.loaded else NOWHERE
            slot.evictions += slot.loaded is not None and slot.seen_there and not slot.is_there(at)
            slot.see(at)

    def snapshot(self) -> Snapshot:
        """Return a snapshot. Takes no lock and touches no disk or device: safe in a request handler."""
        residency = self._residency
        models = tuple(self._row(slot) for slot in residency.slots)
        unresponsive = self._pulse.unresponsive()
        overrides = Overrides(
            late=self._overdue is not None,
            serve=self._serve,
            faulty=self._fault is not None,
            unresponsive=unresponsive is not None,
            draining=self._draining,
        )
        status, serves = judge(self._phase, models, self._warmups, self._problems, overrides)
        if status is not self._seen[0]:
            self._seen = (status, time.time())
        progress = self._progress()
        return Snapshot(
            status=status,
            serves=serves,
            since=self._seen[1],
            progress=progress,
            models=models,
            problems=self._problems,
            misses=dict(residency.misses),
            host=self._facts,
            prefetch=self._prefetch(),
            warmups=self._warmups,
            not_preloaded=self._left,
            fault=self._fault or self._pulse.fault(),
            unresponsive=unresponsive,
            loop_lag=self._pulse.lag,
            jobs=self._jobs.all(),
            sleeping=self._phase is Phase.SLEEPING,
            queue_remaining=self._queue_remaining(),
            prompts=residency.evidence.prompts,
            workflows=residency.evidence.workflows,
            startup=self.startup.read(),
            left=self._left_of_start(progress),
            free=self.free,
        )

    def _left_of_start(self, progress: Progress) -> float | None:
        """Estimate the seconds until the start is over; None while nothing is known to judge it by.

        How long imports take, and warm-ups before one of them has run, is not known.
        """
        if self._phase is Phase.LOADING:
            warm_up = any(one.state is WarmUpState.PENDING for one in self._warmups)
            return None if warm_up else progress.eta
        if self._phase is Phase.WARMING and self._warmups_left is not None:
            return round(self._warmups_left, 1)
        return 0.0 if self._phase in (Phase.SETTLED, Phase.SLEEPING) else None

    def _row(self, slot: Slot) -> Model:
        loaded, call = slot.loaded, slot.call
        at = self._placement(loaded.outputs) if loaded else NOWHERE
        state, problems = self._state(slot, at)
        return Model(
            call,
            state,
            device=_device(call, at),
            bytes=at.bytes or slot.file_bytes,
            by_device=at.by_device,
            read_seconds=slot.read_seconds,
            load_seconds=loaded.seconds if loaded else None,
            warm_seconds=slot.warm_seconds,
            hits=slot.hits,
            evictions=slot.evictions,
            served=slot.served,
            last_miss=slot.last_miss,
            problems=problems,
            warm_for=self._warm_for(call.name) if state is ModelState.WARM else (),
        )

    def _warm_for(self, name: str) -> tuple[str, ...]:
        """Return the sizes of the warm-ups that used this model and were not found too slow."""
        profiles = [one for warm_up in self._warmups if name in warm_up.models for one in warm_up.profiles]
        return tuple(dict.fromkeys(one.shape for one in profiles if one.state is WarmUpState.WARM))

    def _state(self, slot: Slot, at: Placement) -> tuple[ModelState, tuple[Problem, ...]]:
        if slot.stage is Stage.FAILED:
            return ModelState.FAILED, slot.problems
        if slot.loaded is None:
            if self._overdue is not None:
                return ModelState.FAILED, (self._overdue,)
            return ModelState(slot.stage.value), ()
        if slot.call.entry.device == "ram" or slot.is_there(at):
            return (ModelState.RESIDENT if slot.warm_seconds is None else ModelState.WARM), ()
        return (ModelState.EVICTED if slot.was_resident else ModelState.STAGED), ()

    def _progress(self) -> Progress:
        wanted = [slot for slot in self._residency.slots if not slot.call.problems]
        done = [slot for slot in wanted if slot.stage in (Stage.LOADED, Stage.FAILED)]
        total = sum(slot.file_bytes for slot in wanted)
        so_far = sum(slot.file_bytes for slot in done)
        settled = self._phase in (Phase.SETTLED, Phase.SLEEPING)
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


def _device(call: LoaderCall, at: Placement) -> str | None:
    """What is to stay in RAM is on its device all the same once a prompt has used it."""
    in_ram = call.entry.device == "ram" and not at.bytes_off_cpu
    return "cpu" if in_ram else at.device or None
