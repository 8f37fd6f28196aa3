"""The story: settings -> plan -> preflight -> load -> warm -> ready. Knows every stage; does none itself.

`boot/plugin.py` makes a `Preloader` only if there is something to preload. Whatever touches a model is a
job on ComfyUI's prompt queue, the first of them put there by the last hook before the port opens.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

from comfy_preload.core.errors import PreloadError, Problem, problem, unknown_model
from comfy_preload.core.host import Host
from comfy_preload.core.log import log
from comfy_preload.core.machine.head_start import HeadStart
from comfy_preload.core.planning.expansion import Expansion, Runs, expand
from comfy_preload.core.planning.plan import Plan, build, uncalled
from comfy_preload.core.planning.preflight import gigabytes
from comfy_preload.core.settings.validation import Settings
from comfy_preload.core.state.jobs import Command, Job, JobState
from comfy_preload.core.state.readiness import Readiness
from comfy_preload.core.state.residency import Residency, Slot
from comfy_preload.core.state.snapshot import Phase, Status
from comfy_preload.stages.commands import Commands
from comfy_preload.stages.loading import Loading
from comfy_preload.stages.shutdown import INTERVAL, Drain, Watch, exit_with
from comfy_preload.stages.warm_up import Warming


class Preloader:
    """Drives one preload, and takes commands afterwards: `order` is the one way in."""

    def __init__(
        self, settings: Settings, host: Host, reread: Callable[[], Settings], head_start: HeadStart
    ) -> None:
        """`reread`: the settings as they are in the file now, for a reload."""
        self.settings = settings
        self.host = host
        self._reread = reread
        self._head_start = head_start
        self._read = settings
        self._read_runs: tuple[Runs, ...] = ()
        """What the last reload found in the file; adopted if it succeeds."""
        self.residency = Residency(repair=host.repair, usable=host.usable)
        serve = settings.options.on_error == "serve"
        self.readiness = Readiness(
            self.residency,
            host.placement,
            serve=serve,
            queue_remaining=host.queue_remaining,
            changed=host.changed,
            prefetch=head_start.progress,
        )
        self.readiness.problems = settings.problems
        self._loading = Loading(host, self.residency, self.readiness, head_start)
        self._warming = Warming(host, self.residency, self.readiness)
        self._commands = Commands(host, self.residency, self.readiness, self._loading)
        self._drain = Drain(host, self.readiness, settings.options.drain)
        self._watch = Watch(host, self.residency, self.readiness, settings.options.memory_floor)
        self._tasks: set[asyncio.Task[None]] = set()
        self.residency.reset(Slot.of(uncalled(entry)) for entry in settings.entries)

    # -- on the event loop ------------------------------------------------------------------------

    async def start(self, _app: Any) -> None:
        """`on_startup` of ComfyUI's web application: all nodes are registered, no port is open."""
        if self.begin():
            waiter = self._spawn(self._wait(self._spawn(self._preload())))
            if self.settings.options.when == "startup":
                await asyncio.wait({waiter})
        self._exit_if_told()

    def begin(self) -> bool:
        """Listen to SIGTERM, look around now and then, and say whether there is anything to preload now."""
        self._drain.install()
        self._spawn(self._look_around())
        off = self.settings.options.when == "off"
        if off:
            self.residency.reset(())
        if off or self.settings.is_empty:
            self._settle()
        return self.readiness.phase is Phase.STARTING

    async def _preload(self) -> None:
        try:
            await asyncio.wrap_future(self.host.submit(self._load))
            await self._warming.run()  # what goes wrong is in its rows
        except Exception as error:  # noqa: BLE001 — a fault of ours must not look like a preload that goes on for ever
            log.error("the preload itself failed", exc_info=error)
            fault = problem("internal", error=type(error).__name__, reason="see ComfyUI's log")
            self.readiness.problems = (*self.readiness.problems, fault)
        self._settle()

    async def _wait(self, preload: asyncio.Task[None]) -> None:
        timeout = self.settings.options.timeout
        await asyncio.wait({preload}, timeout=timeout)
        if not preload.done():
            self.readiness.overdue = problem("timeout", wanted=f"{timeout:g}")
            log.error("%s", self.readiness.overdue)
        self._exit_if_told()

    def _settle(self) -> None:
        self.readiness.move(Phase.SETTLED)
        if not self.settings.is_empty:
            self._loading.report()

    def _exit_if_told(self) -> None:
        snapshot = self.readiness.snapshot()
        if self.settings.options.on_error == "exit" and snapshot.status is Status.FAILED:
            reasons = [str(p) for p in snapshot.problems]
            reasons += [f"{n}: {p}" for n, ps in snapshot.failing().items() for p in ps]
            exit_with("; ".join(reasons))

    async def _look_around(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL)
            try:
                spare = self._watch.look()
                if spare is not None:
                    self._submit(Job(Command.RELEASE, spare.call.name, reason="memory"), front=True)
            except Exception:  # noqa: BLE001 — the next look may succeed, and nobody waits for this one
                log.exception("the look around failed")

    def order(self, command: Command, model: str | None = None) -> Job:
        """The door for commands; see `core.jobs.Door`."""
        if self.readiness.draining or self.readiness.phase not in (Phase.SETTLED, Phase.SLEEPING):
            found = self.readiness.snapshot().status.value
            raise PreloadError(problem("command_too_early", command=command.value, found=found))
        if command is Command.RELEASE and model is not None and self.residency.find(model) is None:
            raise PreloadError(unknown_model(model, [slot.call.name for slot in self.residency.slots]))
        return self.readiness.jobs.pending(command, model) or self._submit(Job(command, model))

    def _submit(self, job: Job, *, front: bool = False) -> Job:
        self.readiness.jobs.add(job)
        self.readiness.changed()
        self._spawn(self._carry_out(job, front=front))
        return job

    async def _carry_out(self, job: Job, *, front: bool) -> None:
        async def work() -> None:
            job.move(JobState.RUNNING)
            self.readiness.changed()
            await self._commands.run(job, self._replan)

        try:
            await asyncio.wrap_future(self.host.submit(work, front=front))
        except Exception as error:  # noqa: BLE001 — told to whoever asks for the job
            log.error("the command %s failed", job.command.value, exc_info=error)
            job.problems = (problem("internal", error=type(error).__name__, reason="see ComfyUI's log"),)
        if job.command is Command.RELOAD and not job.problems:
            if job.model is None:
                self._adopt(self._read)
                self._warming.take(self._read_runs, keep=not job.loaded)
            job.problems = await self._warming.run()
        job.move(JobState.FAILED if job.problems else JobState.DONE)
        self.readiness.changed()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start a task and keep it: asyncio itself holds tasks weakly."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # -- on the prompt worker ---------------------------------------------------------------------

    async def _load(self) -> None:
        """The job of the preload."""
        self.readiness.move(Phase.LOADING)
        self.readiness.host = self.host.facts()
        self._head_start.free_memory()
        began = time.perf_counter()
        plan, runs = self._plan(self.settings)
        self._warming.take(runs)
        checked = self._loading.check(plan)
        self.residency.reset(Slot.of(c, checked.bytes[c.name]) for c in checked.plan.calls)
        self._loading.watch(checked.plan.calls)
        self._tell(checked.plan, time.perf_counter() - began)
        await self._loading.load(self.residency.slots)
        self._head_start.end_prefetch()
        self._loading.push(self.residency.slots)
        self._head_start.touch_spare_memory()

    def _plan(self, settings: Settings) -> tuple[Plan, tuple[Runs, ...]]:
        """Look everything up in this ComfyUI."""
        names = [entry.name for entry in settings.entries]
        folders = (settings.folder, self.host.user_folder())
        expansion = (
            expand(settings.workflows, folders, self.host.node_types(), names)
            if settings.workflows
            else Expansion()
        )
        plan = build((*settings.entries, *expansion.entries), self.host)
        for left_out, same in plan.duplicates:
            if left_out in names:  # workflows share models all the time
                log.warning("%s is the same call as %s and is left out", left_out, same)
        return plan, expansion.runs

    def _replan(self) -> tuple[Plan, tuple[Problem, ...]]:
        """The settings as they are in the file now, for a reload."""
        self._read, self._read_runs = self._reread(), ()
        if self._read.problems:
            return Plan(()), self._read.problems
        plan, self._read_runs = self._plan(self._read)
        failing = self.readiness.snapshot().failing()
        broken = (one.row for one in self._read_runs if one.row.required and one.row.name not in failing)
        return plan, tuple(wrong for row in broken for wrong in row.problems)

    def _adopt(self, settings: Settings) -> None:
        self.settings = settings
        self.readiness.serve = settings.options.on_error == "serve"
        self._drain.seconds = settings.options.drain
        self._watch.floor = settings.options.memory_floor

    def _tell(self, plan: Plan, seconds: float) -> None:
        log.info(
            "plan: %d of %d models to load, %s to read (%.2f s)",
            len(plan.runnable()),
            len(plan.calls),
            gigabytes(self.readiness.snapshot().progress.bytes_total),
            seconds,
        )
        for fault in self.settings.problems:
            log.error("%s", fault)
        for call in plan.calls:
            for wrong in call.problems:
                log.error("%s: %s", call.name, wrong)
