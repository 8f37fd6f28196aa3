"""Run the preload: settings, plan, preflight, load, push, warm-up. Delegates each stage.

`boot/plugin.py` makes a `Preloader` only if there is something to preload. Everything that touches a model is
a job on ComfyUI's prompt queue; the first job is queued by the last hook before the port opens.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import psutil

from comfy_preload.core.errors import PreloadError, Problem, internal_error, problem, unknown_model
from comfy_preload.core.host import Host
from comfy_preload.core.log import log
from comfy_preload.core.machine.head_start import HeadStart
from comfy_preload.core.planning.plan import Plan, uncalled
from comfy_preload.core.settings.validation import Settings
from comfy_preload.core.state.jobs import Command, Job, JobState
from comfy_preload.core.state.pulse import Pulse
from comfy_preload.core.state.readiness import Readiness
from comfy_preload.core.state.residency import Residency
from comfy_preload.core.state.slot import Slot
from comfy_preload.core.state.snapshot import Hold, Phase, Status
from comfy_preload.core.state.startup import StartStage, Startup
from comfy_preload.core.state.tally import Tally
from comfy_preload.core.text import counted, gigabytes, summary
from comfy_preload.stages.commands import Commands
from comfy_preload.stages.hold import why_not_hold
from comfy_preload.stages.loading import Loading
from comfy_preload.stages.planning import Planned, make_plan
from comfy_preload.stages.shutdown import Drain, exit_with
from comfy_preload.stages.warm_up import WarmUps
from comfy_preload.stages.watchdog import INTERVAL, Watchdog

BEFORE_LOADING = (StartStage.STARTING, StartStage.IMPORTING)
AFTER_IMPORTS = (StartStage.READING, StartStage.LOADING, StartStage.PUSHING, StartStage.WARMING)


class Preloader:
    """One preload and the commands after it. `order` accepts the commands."""

    def __init__(
        self,
        settings: Settings,
        host: Host,
        reread: Callable[[], Settings],
        head_start: HeadStart,
        tally: Tally,
        *,
        startup: Startup,
        hold: Callable[[Problem | None], Awaitable[Hold | None]] | None = None,
    ) -> None:
        """Start nothing yet.

        Args:
            settings: The settings file, validated.
            host: ComfyUI.
            reread: Returns the current settings of the file, for a reload.
            head_start: What began before torch was imported.
            tally: Counts what happens.
            startup: Notes the stages of the start.
            hold: Waits until a platform has copied this process, or does not if it gets a reason.
        """
        options = settings.options
        self.settings = settings
        self.host = host
        self._head_start = head_start
        self._tally = tally
        self._pulse = Pulse()
        self.residency = Residency(
            repair=host.repair,
            usable=host.usable,
            files=host.files,
            values=host.values,
            collect=host.collect,
            held=lambda outputs: host.placement(outputs).bytes_off_cpu,
            prompt=host.running_prompt,
        )
        self.readiness = Readiness(
            self.residency,
            host.placement,
            serve=options.on_error == "serve",
            problems=settings.problems,
            queue_remaining=host.queue_remaining,
            announce=host.changed,
            prefetch=head_start.progress,
            pulse=self._pulse,
            startup=startup,
        )
        self._loading = Loading(host, self.residency, self.readiness, head_start)
        self._warm_ups = WarmUps(host, self.residency, self.readiness)
        self._commands = Commands(host, self.residency, self.readiness, self._loading, reread)
        self._drain = Drain(host, self.readiness, tally, options.drain)
        self._watchdog = Watchdog(host, self.residency, self.readiness, tally, options.memory_floor)
        self._hold = hold
        self._is_held = False
        self._held_seconds = 0.0
        """By how much a hold has moved the clock on."""
        self._tasks: set[asyncio.Task[None]] = set()
        self.residency.reset(Slot.of(uncalled(entry)) for entry in settings.entries)

    # -- on the event loop ------------------------------------------------------------------------

    async def start(self, _app: Any) -> None:
        """Handle `on_startup` of ComfyUI's web application: all nodes are registered, no port is open."""
        if self.begin():
            waiter = self._spawn(self._wait(self._spawn(self._preload())))
            if self.settings.options.when == "startup" or self._hold:
                await asyncio.wait({waiter})
        self._exit_if_failed()

    def begin(self) -> bool:
        """Handle SIGTERM, start the pulse and the watchdog.

        Return whether there is anything to preload now.
        """
        self._drain.install()
        self._pulse.start(self.host.prompt_worker())
        self._watchdog.look_at_memory()
        self._spawn(self._check_regularly())
        off = self.settings.options.when == "off"
        if off:
            self.residency.reset(())
        if off or self.settings.is_empty:
            self._settle()
        return self.readiness.phase is Phase.STARTING

    async def _preload(self) -> None:
        try:
            await asyncio.wrap_future(self.host.submit(self._load))
            await self._hold_at("loaded")
            await self._warm_ups.run()  # failures are in its rows
            await self._hold_at("warm")
        except Exception as error:  # noqa: BLE001 — our own bug must not look like a preload that never ends
            log.error("the preload failed with an internal error", exc_info=error)
            self.readiness.blame(type(error), str(error))
            self.readiness.fail(internal_error(error))
        self._settle()

    async def _wait(self, preload: asyncio.Task[None]) -> None:
        timeout = self.settings.options.timeout
        began = time.monotonic()
        while not preload.done():
            left = began + self._held_seconds + timeout - time.monotonic()
            if left <= 0 and not self._is_held:
                break
            await asyncio.wait({preload}, timeout=1.0 if self._is_held else min(left, 1.0))
        if not preload.done():
            self._hold = None  # the port opens now
            overdue = problem("timeout", expected=f"{timeout:g}")
            self.readiness.overdue_by(overdue)
            log.error("%s", overdue)
        self._exit_if_failed()

    async def _hold_at(self, point: str) -> None:
        """Hold here if the settings say so. After a restore, follow the settings and files of this place."""
        hold, options = self._hold, self.settings.options.snapshot
        if hold is None or options is None or options.when != point:
            return
        self._hold = None
        began, self._is_held = time.monotonic(), True
        try:
            held = await hold(why_not_hold(self.readiness))
        finally:
            self._is_held = False
            self._held_seconds += time.monotonic() - began
            self.readiness.leave_out(time.monotonic() - began)
        self.residency.stamp_again()
        if held and held.restored:
            self.readiness.begin_again()
            self.readiness.describe(self.host.facts())
            job = Job(Command.RELOAD, reason="restore")
            self.readiness.accept(job)
            await self._carry_out(job, front=False)

    def _settle(self) -> None:
        self.readiness.move(Phase.SETTLED)
        if self.readiness.snapshot().serves:
            began = self._tally.restored or psutil.Process().create_time()
            self._tally.become_ready(time.time() - began)
        if not self.settings.is_empty:
            self._log_stages(*AFTER_IMPORTS)
            self._loading.report()

    def _exit_if_failed(self) -> None:
        snapshot = self.readiness.snapshot()
        if self.settings.options.on_error == "exit" and snapshot.status is Status.FAILED:
            reasons = [str(p) for p in snapshot.problems]
            reasons += [f"{n}: {p}" for n, ps in snapshot.failing().items() for p in ps]
            exit_with("; ".join(reasons), busy=self.host.is_busy())

    async def _check_regularly(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL)
            try:
                spare = self._watchdog.check()
                if spare is not None:
                    self._submit(Job(Command.RELEASE, spare.call.name, reason="memory"), front=True)
            except Exception:  # noqa: BLE001 — the next check may succeed
                log.exception("the watchdog check failed")

    def order(self, command: Command, model: str | None = None) -> Job:
        """Queue a command; see `core.state.jobs.Door`."""
        if not self.readiness.takes_commands:
            found = self.readiness.snapshot().status.value
            raise PreloadError(problem("command_too_early", command=command.value, found=found))
        if command is Command.RELEASE and model is not None and self.residency.find(model) is None:
            raise PreloadError(unknown_model(model, [slot.call.name for slot in self.residency.slots]))
        return self.readiness.pending(command, model) or self._submit(Job(command, model))

    def _submit(self, job: Job, *, front: bool = False) -> Job:
        self.readiness.accept(job)
        self._spawn(self._carry_out(job, front=front))
        return job

    async def _carry_out(self, job: Job, *, front: bool) -> None:
        reloaded: Planned | None = None
        try:
            reloaded = await self._commands.run(job, front=front)
        except Exception as error:  # noqa: BLE001 — reported by the job
            log.error("the command %s failed", job.command.value, exc_info=error)
            self.readiness.blame(type(error), str(error))
            job.problems = (internal_error(error),)
        if reloaded:
            self._adopt(reloaded.settings)
            self._warm_ups.take(reloaded.runs, keep=not job.loaded)
            self.residency.evidence.plan(reloaded.likeness)
            self.readiness.leave((*reloaded.left, *self._loading.left))
        if job.command is Command.RELOAD and not job.problems:
            job.problems = (*self._lacking(job), *await self._warm_ups.run())
        if job.command is Command.WAKE and not job.problems:
            if self._commands.is_cold():
                job.problems = await self._warm_ups.repeat()
            self._commands.end_wake(job)
        job.move(JobState.FAILED if job.problems else JobState.DONE)
        self.readiness.announce()

    def _lacking(self, job: Job) -> tuple[Problem, ...]:
        """Return what a reload could not load where it switched all the same: nothing worked before."""
        failed = [m for m in self.readiness.snapshot().models if m.problems and job.model in (None, m.name)]
        if not failed:
            return ()
        reasons = summary(f"{model.name}: {model.problems[0].message}" for model in failed)
        return (problem("reload_lacks", count=counted(len(failed), "model"), reason=reasons),)

    def _adopt(self, settings: Settings) -> None:
        self.settings = settings
        self.readiness.adopt(serve=settings.options.on_error == "serve")
        self._drain.seconds = settings.options.drain
        self._watchdog.floor = settings.options.memory_floor

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start a task and keep it: asyncio itself holds tasks weakly."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # -- on the prompt worker ---------------------------------------------------------------------

    async def _load(self) -> None:
        """Run the preload's job: plan, preflight, load, push."""
        self.readiness.move(Phase.LOADING)
        self._log_stages(*BEFORE_LOADING)
        self.readiness.describe(self.host.facts())
        began = time.perf_counter()
        planned = make_plan(self.settings, self.host)
        self._warm_ups.take(planned.runs)
        self.residency.evidence.plan(planned.likeness)
        checked = self._loading.check(planned.plan)
        self.residency.reset(Slot.of(c, checked.bytes[c.name]) for c in checked.plan.calls)
        self._loading.watch(checked.plan.calls)
        self._log_plan(checked.plan, time.perf_counter() - began)
        await self._loading.load(self.residency.slots)
        self.readiness.leave((*planned.left, *self._loading.left))
        self._head_start.end_prefetch()
        self._loading.push(self.residency.slots)

    def _log_stages(self, *stages: StartStage) -> None:
        seconds = self.readiness.startup.read().seconds
        for stage in stages:
            log.info("startup.%s: %.2f s", stage.value, seconds[stage])

    def _log_plan(self, plan: Plan, seconds: float) -> None:
        log.info(
            "plan: %d of %d models to load, %s to read (%.2f s)",
            len(plan.runnable()),
            len(plan.calls),
            gigabytes(self.readiness.snapshot().progress.bytes_total),
            seconds,
        )
        for wrong in self.settings.problems:
            log.error("%s", wrong)
        for call in plan.calls:
            for wrong in call.problems:
                log.error("%s: %s", call.name, wrong)
