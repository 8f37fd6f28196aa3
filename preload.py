"""The story: settings -> plan -> preflight -> load -> ready. Knows every stage; does none itself.

`startup.py` makes a `Preloader` only if there is something to preload. Its work is one job on
ComfyUI's prompt queue, put there by the last hook before the port opens.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tqdm import tqdm

from .core import memory, prefetch, pretouch
from .core.errors import Problem, failure, problem
from .core.header import inspect
from .core.host import Host
from .core.log import log
from .core.plan import LoaderCall, Target, build, uncalled
from .core.preflight import check, gigabytes
from .core.readiness import Phase, Readiness, Status, fully_there
from .core.residency import Residency, Slot, Stage
from .core.settings import Settings

EXIT_CODE = 70
"""Exit status of the process under `on_error: exit` (EX_SOFTWARE of sysexits.h)."""


class Preloader:
    """Drives one preload. Its `_run` is executed by the thread that runs prompts."""

    def __init__(self, settings: Settings, host: Host) -> None:
        self.settings = settings
        self.host = host
        self.residency = Residency(repair=host.repair, usable=host.usable)
        serve = settings.options.on_error == "serve"
        self.readiness = Readiness(self.residency, host.placement, serve=serve)
        self.readiness.problems = settings.problems
        self.unwatch: dict[str, Callable[[], None]] = {}
        """By node class: takes our wrapper off again."""
        self._waiter: asyncio.Task[None] | None = None
        self.residency.reset(_slot(uncalled(entry)) for entry in settings.entries)

    # -- on the event loop ------------------------------------------------------------------------

    async def start(self, _app: Any) -> None:
        """`on_startup` of ComfyUI's web application: all nodes are registered, no port is open."""
        when = self.settings.options.when
        if when == "off" or not self.settings.entries:
            self.residency.reset(() if when == "off" else self.residency.slots)
            self.readiness.move(Phase.SETTLED)
            self._report()
        else:
            done = asyncio.wrap_future(self.host.submit(self._run))
            self._waiter = asyncio.create_task(self._wait(done))
            if when == "startup":
                await asyncio.wait({self._waiter})
        self._exit_if_told()

    async def _wait(self, done: asyncio.Future[None]) -> None:
        timeout = self.settings.options.timeout
        await asyncio.wait({done}, timeout=timeout)
        if not done.done():
            self.readiness.overdue = problem("timeout", wanted=f"{timeout:g}")
            log.error("%s", self.readiness.overdue)
        elif error := done.exception():
            self._crashed(error)
        self._exit_if_told()

    def _exit_if_told(self) -> None:
        """Under `on_error: exit`, end the process: SystemExit passes through ComfyUI's loop."""
        snapshot = self.readiness.snapshot()
        if self.settings.options.on_error == "exit" and snapshot.status is Status.FAILED:
            reasons = [str(p) for p in snapshot.problems]
            reasons += [f"{n}: {p}" for n, ps in snapshot.failing().items() for p in ps]
            log.critical("on_error: exit, ending with status %d: %s", EXIT_CODE, "; ".join(reasons))
            raise SystemExit(EXIT_CODE)

    def _crashed(self, error: BaseException) -> None:
        log.error("the preload itself failed", exc_info=error)
        fault = problem("internal", error=type(error).__name__, reason="see ComfyUI's log")
        self.readiness.problems = (*self.readiness.problems, fault)
        if self.readiness.phase is not Phase.SETTLED:
            self.readiness.move(Phase.SETTLED)

    # -- on the prompt worker ---------------------------------------------------------------------

    async def _run(self) -> None:
        """The job."""
        self.readiness.move(Phase.LOADING)
        self.readiness.host = self.host.facts()
        if pretouch.running:
            pretouch.running.release()
        self._plan()
        total = self.readiness.snapshot().progress.bytes_total
        # disable=None: drawn on a terminal only
        with tqdm(total=total, unit="B", unit_scale=True, leave=False, disable=None) as bar:
            for slot in self.residency.slots:
                if slot.stage is Stage.PENDING and slot.call.target:
                    bar.set_description(slot.call.name)
                    await self._load(slot, slot.call.target)
                    bar.update(slot.file_bytes)
        if prefetch.running:
            prefetch.running.stop()
        self._push()
        self.readiness.move(Phase.SETTLED)
        self._report()

    def _plan(self) -> None:
        """Look everything up and into, before anything is loaded; watch the loaders it needs."""
        began = time.perf_counter()
        room = memory.available() + self.host.free_device_memory()
        checked = check(build(self.settings.entries, self.host), inspect, room)
        for left_out, same in checked.plan.duplicates:
            log.warning("%s is the same call as %s and is left out", left_out, same)
        self.residency.reset(_slot(c, checked.bytes[c.name]) for c in checked.plan.calls)
        runnable = checked.plan.runnable()
        for spec in {c.target.spec.identity: c.target.spec for c in runnable if c.target}.values():
            self.unwatch[spec.identity] = self.host.watch(spec, self.residency)
        log.info(
            "plan: %d of %d models to load, %s to read, %s of memory available (%.2f s)",
            len(runnable),
            len(self.settings.entries),
            gigabytes(self.readiness.snapshot().progress.bytes_total),
            gigabytes(room),
            time.perf_counter() - began,
        )
        for problem_ in self.settings.problems:
            log.error("%s", problem_)
        for call in checked.plan.calls:
            for wrong in call.problems:
                log.error("%s: %s", call.name, wrong)

    async def _load(self, slot: Slot, target: Target) -> None:
        call = slot.call
        if prefetch.running:
            slot.stage = Stage.READING
            slot.read_seconds = prefetch.running.wait(file.path for file in target.files)
        slot.stage = Stage.LOADING
        began = time.perf_counter()
        try:
            outputs = await self.host.call(target.spec, target.inputs)
        except BaseException as error:  # noqa: BLE001 — SystemExit too would end ComfyUI's prompt worker
            slot.fail(self._explain(slot, error))
            log.error("%s: %s", call.name, slot.problems[0], exc_info=error)
            return
        if slot.loaded is None:
            found = self.host.usable(outputs) or "its outputs to another call"
            slot.fail(problem("load_output", line=call.line, loader=call.loader, found=found))
            log.error("%s: %s", call.name, slot.problems[0])
            return
        seconds = time.perf_counter() - began
        speed = f"{gigabytes(slot.file_bytes)}, {slot.file_bytes / 1e9 / seconds:.2f} GB/s, " if call.files else ""
        log.info("loaded %s (%s): %s%.2f s", call.name, call.loader, speed, seconds)

    def _explain(self, slot: Slot, error: BaseException) -> Problem:
        line = slot.call.line
        if self.host.is_interrupt(error):
            for other in self.residency.slots:
                if other.stage is Stage.PENDING:
                    other.fail(problem("interrupted", line=other.call.line))
            return problem("interrupted", line=line)
        if self.host.is_out_of_memory(error):
            self.host.relieve()
            return problem("out_of_memory", line=line, loader=slot.call.loader)
        files = [file.path for file in slot.call.files]
        return replace(failure(slot.call.loader, error, files), line=line)

    def _push(self) -> None:
        """One call for all, so that none evicts another; then look where they really are."""
        slots = [s for s in self.residency.slots if s.loaded and s.call.device == "gpu"]
        began = time.perf_counter()
        try:
            self.host.push([s.loaded.outputs for s in slots if s.loaded])
        except BaseException as error:  # noqa: BLE001 — as above
            if self.host.is_out_of_memory(error):
                self.host.relieve()
            log.error("not everything fits on the device; the rest stays in RAM", exc_info=error)
        placements = [self.host.placement(s.loaded.outputs) for s in slots if s.loaded]
        for slot, at in zip(slots, placements, strict=True):
            slot.was_resident = fully_there(at)
        log.info(
            "moved: %s of %s on %s (%.2f s)",
            gigabytes(sum(at.bytes_on_device for at in placements)),
            gigabytes(sum(at.bytes for at in placements)),
            " and ".join(sorted({at.device for at in placements})) or "no device",
            time.perf_counter() - began,
        )
        if any(at.dynamic for at in placements):
            log.warning(
                "dynamic VRAM: weights are staged and go to the device at the first prompt; start "
                "ComfyUI with --highvram to have them there before it"
            )

    def _report(self) -> None:
        """The summary, for whoever reads the log from the end."""
        snapshot = self.readiness.snapshot()
        failing = snapshot.failing()
        log.log(
            logging.INFO if snapshot.status is Status.READY else logging.ERROR,
            "%s: %d models loaded, %d failed%s, %.2f s",
            snapshot.status.value,
            sum(m.state.loaded for m in snapshot.models),
            len(failing),
            f" ({', '.join(failing)})" if failing else "",
            snapshot.progress.seconds,
        )


def _slot(call: LoaderCall, size: int = 0) -> Slot:
    stage = Stage.FAILED if call.problems else Stage.PENDING
    return Slot(call, size, stage, problems=call.problems)
