"""Load models and push them to the device. Runs only on the prompt worker, inside a job."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace

from tqdm import tqdm

from comfy_preload.core.errors import Problem, failure, problem
from comfy_preload.core.host import Host
from comfy_preload.core.log import log
from comfy_preload.core.machine import memory
from comfy_preload.core.machine.head_start import HeadStart
from comfy_preload.core.planning.plan import LoaderCall, Plan, Target
from comfy_preload.core.planning.preflight import Checked, check, gigabytes
from comfy_preload.core.planning.safetensors import inspect
from comfy_preload.core.state.readiness import Readiness, fully_there
from comfy_preload.core.state.residency import Residency, Slot, Stage
from comfy_preload.core.state.snapshot import Status


class Loading:
    """The steps of a preload and of a reload."""

    def __init__(self, host: Host, residency: Residency, readiness: Readiness, head_start: HeadStart) -> None:
        self._host = host
        self._head_start = head_start
        self._residency = residency
        self._readiness = readiness
        self._unwatch: dict[str, Callable[[], None]] = {}
        """By node class: a function that removes the interceptor."""

    def check(self, plan: Plan) -> Checked:
        """Check the files of a plan before any of them is loaded."""
        room = memory.available() + self._host.free_device_memory()
        return check(plan, inspect, room, pickles=self._host.loads_pickles_safely())

    def watch(self, calls: Iterable[LoaderCall]) -> None:
        """Intercept the loader nodes of these calls, in addition to those that are already intercepted."""
        for call in calls:
            if call.target and not call.problems and call.target.spec.identity not in self._unwatch:
                self._unwatch[call.target.spec.identity] = self._host.watch(call.target.spec, self._residency)

    def unwatch_others(self, calls: Iterable[LoaderCall]) -> None:
        """Remove the interceptor of every loader node that none of these calls needs."""
        needed = {call.target.spec.identity for call in calls if call.target}
        for identity in self._unwatch.keys() - needed:
            self._unwatch.pop(identity)()

    async def load(self, slots: Collection[Slot]) -> None:
        """Load the pending slots, one after another. A failure affects only that slot."""
        total = sum(slot.file_bytes for slot in slots if slot.stage is Stage.PENDING)
        # disable=None: shown on a terminal only
        with tqdm(total=total, unit="B", unit_scale=True, leave=False, disable=None) as bar:
            for slot in slots:
                if slot.stage is Stage.PENDING and slot.call.target:
                    bar.set_description(slot.call.name)
                    await self._load(slot, slot.call.target, slots)
                    bar.update(slot.file_bytes)

    async def _load(self, slot: Slot, target: Target, slots: Iterable[Slot]) -> None:
        call = slot.call
        if self._head_start.prefetch:
            slot.stage = Stage.READING
            slot.read_seconds = self._head_start.wait_for(file.path for file in target.files)
        slot.stage = Stage.LOADING
        began = time.perf_counter()
        try:
            outputs = await self._host.call(target.spec, target.inputs, target.node)
        except BaseException as error:  # noqa: BLE001 — SystemExit too would end ComfyUI's prompt worker
            slot.fail(self._explain(slot, error, slots))
            log.error("%s: %s", call.name, slot.problems[0], exc_info=error)
            return
        if slot.loaded is None:
            found = self._host.usable(outputs) or "its outputs to another call"
            slot.fail(problem("load_output", line=call.entry.line, loader=call.entry.loader, found=found))
            log.error("%s: %s", call.name, slot.problems[0])
            return
        seconds = time.perf_counter() - began
        speed = (
            f"{gigabytes(slot.file_bytes)}, {slot.file_bytes / 1e9 / seconds:.2f} GB/s, "
            if call.files
            else ""
        )
        log.info("loaded %s (%s): %s%.2f s", call.name, call.entry.loader, speed, seconds)

    def _explain(self, slot: Slot, error: BaseException, slots: Iterable[Slot]) -> Problem:
        line = slot.call.entry.line
        if self._host.is_interrupt(error):
            for other in slots:
                if other.stage is Stage.PENDING:
                    other.fail(problem("interrupted", line=other.call.entry.line))
            return problem("interrupted", line=line)
        if self._host.is_out_of_memory(error):
            self._host.relieve()
            return problem("out_of_memory", line=line, loader=slot.call.entry.loader)
        self._readiness.blame(type(error), str(error))
        files = [file.path for file in slot.call.files]
        return replace(failure(slot.call.entry.loader, error, files), line=line)

    def push(self, slots: Iterable[Slot]) -> None:
        """Push all models in one call, so that none evicts another; then check where they are."""
        pushed = [
            (slot, slot.loaded.outputs) for slot in slots if slot.loaded and slot.call.entry.device == "gpu"
        ]
        if not pushed:
            return
        began = time.perf_counter()
        try:
            self._host.push([outputs for _, outputs in pushed])
        except BaseException as error:  # noqa: BLE001 — as above
            if self._host.is_out_of_memory(error):
                self._host.relieve()
            else:
                self._readiness.blame(type(error), str(error))
            log.error("not all models fit on the device; the others stay in RAM", exc_info=error)
        placements = [self._host.placement(outputs) for _, outputs in pushed]
        for (slot, _), at in zip(pushed, placements, strict=True):
            slot.was_resident = slot.seen_there = fully_there(at)
        log.info(
            "moved: %s of %s on %s (%.2f s)",
            gigabytes(sum(at.bytes_on_device for at in placements)),
            gigabytes(sum(at.bytes for at in placements)),
            " and ".join(sorted({at.device for at in placements})) or "no device",
            time.perf_counter() - began,
        )

    def report(self) -> None:
        """Log a summary."""
        snapshot = self._readiness.snapshot()
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
        cold = [slot for slot in self._residency.slots if slot.loaded and slot.warm_seconds is None]
        if any(self._host.placement(slot.loaded.outputs).dynamic for slot in cold if slot.loaded):
            log.warning(
                "dynamic VRAM: models are only staged; the first prompt moves the weights to the device. List a workflow with "
                "'warmup: true', or start ComfyUI with --highvram"
            )
