"""Load models and push them to the device. Runs only on the prompt worker, inside a job."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

from tqdm import tqdm

from comfy_preload.core.errors import Problem, failure, problem
from comfy_preload.core.host import Host, Placement
from comfy_preload.core.log import log
from comfy_preload.core.machine import memory
from comfy_preload.core.machine.head_start import HeadStart
from comfy_preload.core.planning.call import LoaderCall, Target, call_key
from comfy_preload.core.planning.plan import Plan
from comfy_preload.core.planning.preflight import Checked, check
from comfy_preload.core.planning.rows import NotPreloaded
from comfy_preload.core.planning.safetensors import inspect
from comfy_preload.core.state.readiness import Readiness
from comfy_preload.core.state.residency import Residency
from comfy_preload.core.state.slot import Slot, Stage, heals
from comfy_preload.core.state.snapshot import Status
from comfy_preload.core.state.startup import StartStage
from comfy_preload.core.text import counted, gigabytes, listed, without_paths
from comfy_preload.core.workflow.unknown import linked, links_of

MARGIN = 1.25
"""Memory that loading a file is allowed to need, by the file's size.

Fp16 computed as fp32 needs more, and is freed again.
"""


class Loading:
    """The steps of a preload and of a reload."""

    def __init__(self, host: Host, residency: Residency, readiness: Readiness, head_start: HeadStart) -> None:
        self._host = host
        self._head_start = head_start
        self._residency = residency
        self._readiness = readiness
        self._unwatch: dict[str, Callable[[], None]] = {}
        """By node class: a function that removes the interceptor."""
        self.left: tuple[NotPreloaded, ...] = ()
        """Calls of the last plan that turned out not to be possible ahead."""

    def check(self, plan: Plan, *, to_be_freed: int = 0) -> Checked:
        """Look into the files of a plan, before anything of it is loaded.

        `to_be_freed`: bytes of models that will be gone by then.
        """
        self.left = ()
        room = memory.available() + self._host.free_device_memory() + to_be_freed
        pickles, mapped = self._host.loads_pickles_safely(), self._host.maps_files()
        checked = check(plan, inspect, room, pickles=pickles, mapped=mapped)
        for warning in checked.warnings:
            log.warning("%s", warning)
        return checked

    def fits_beside(self, slots: Iterable[Slot]) -> bool:
        """Return whether main memory can take all of these beside what is loaded now."""
        needed = sum(slot.file_bytes for slot in slots if slot.stage is Stage.PENDING)
        return self._host.maps_files() or needed * MARGIN <= memory.available()

    def watch(self, calls: Iterable[LoaderCall]) -> None:
        """Intercept the loader nodes of these calls, in addition to those that are already intercepted."""
        for call in calls:
            if call.target and heals(call) and call.target.spec.class_id not in self._unwatch:
                self._unwatch[call.target.spec.class_id] = self._host.watch(call.target.spec, self._residency)

    def unwatch_others(self, calls: Iterable[LoaderCall]) -> None:
        """Remove the interceptor of every loader node that none of these calls needs."""
        needed = {call.target.spec.class_id for call in calls if call.target}
        for class_id in self._unwatch.keys() - needed:
            self._unwatch.pop(class_id)()

    async def load(self, slots: Collection[Slot], *, push: bool = True) -> None:
        """Load the pending slots, one after another. A failure affects only that slot.

        `push`: move each to its device before the next is loaded, so that main memory holds one at a time.
        """
        total = sum(slot.file_bytes for slot in slots if slot.stage is Stage.PENDING)
        # disable=None: shown on a terminal only
        with tqdm(total=total, unit="B", unit_scale=True, leave=False, disable=None) as bar:
            for slot in slots:
                if slot.stage is Stage.PENDING and slot.call.target:
                    if self._host.was_cancelled():  # loaders themselves do not look at it
                        _interrupt(slots)
                        return
                    bar.set_description(slot.call.name)
                    await self._load(slot, slot.call.target, slots)
                    bar.update(slot.file_bytes)
                    if push:
                        self._push([slot])

    async def _load(self, slot: Slot, target: Target, slots: Collection[Slot]) -> None:
        call = slot.call
        if self._head_start.prefetch:
            slot.stage = Stage.READING
            self._readiness.startup.enter(StartStage.READING)
            slot.read_seconds = self._head_start.wait_for(file.path for file in target.files)
        slot.stage = Stage.LOADING
        self._readiness.startup.enter(StartStage.LOADING)
        began = time.perf_counter()
        try:
            inputs = await self._inputs(slot, target, slots)
            if inputs is None:
                return
            outputs = await self._host.call(target.spec, inputs, target.node)
        except BaseException as error:  # noqa: BLE001 — SystemExit too would end ComfyUI's prompt worker
            slot.fail(self._explain(slot, error, slots))
            log.error("%s: %s", call.name, slot.problems[0], exc_info=error)
            return
        if slot.loaded is None:
            found = self._host.usable(outputs) or "its outputs to another call"
            slot.fail(problem("load_output", line=call.entry.line, loader=call.entry.loader, found=found))
            log.error("%s: %s", call.name, slot.problems[0])
            return
        if call.entry.node is not None and all(map(_is_plain, self._host.values(outputs))):
            why = problem("workflow_file_inside", node=call.entry.node.id, type=call.entry.loader)
            self._leave(slot, why)
            return
        seconds = time.perf_counter() - began
        speed = (
            f"{gigabytes(slot.file_bytes)}, {slot.file_bytes / 1e9 / seconds:.2f} GB/s, "
            if call.files
            else ""
        )
        log.info("loaded %s (%s): %s%.2f s", call.name, call.entry.loader, speed, seconds)

    async def _inputs(self, slot: Slot, target: Target, slots: Collection[Slot]) -> Mapping[str, Any] | None:
        """Return the inputs, after the nodes that give some of them have run.

        None if it cannot be preloaded after all.
        """
        if not slot.call.entry.links:
            return target.inputs
        inputs = {**target.inputs, **await self._run_before(slot, target, slots)}
        if self._residency.identify_by(slot, self._host.arguments(target.spec, inputs)):
            return inputs
        name = next(iter(slot.call.entry.links))
        computed = problem(
            "workflow_value_computed", node=target.node.id, loader=target.spec.name, input=name
        )
        self._leave(slot, computed)
        return None

    async def _run_before(self, slot: Slot, target: Target, slots: Collection[Slot]) -> dict[str, Any]:
        """Run the nodes that a loader is linked to, each after those that it is linked to.

        Returns the linked inputs.
        """
        prompt, links = target.node.prompt, slot.call.entry.links
        made: dict[str, tuple[Any, ...]] = {}
        todo = [node for node, _ in links.values()]
        while todo:
            name = todo[-1]
            node = prompt[name]
            waiting = [one for _, one in links_of(node) if one not in made and name not in made]
            if waiting:
                todo += waiting
                continue
            todo.pop()
            spec = self._host.loader(node["class_type"])
            if name not in made and spec is not None:
                given = {k: made[str(linked(v))][v[1]] if linked(v) else v for k, v in node["inputs"].items()}
                planned = self._residency.slot_of(spec, self._host.arguments(spec, given))
                if planned and planned.stage is Stage.PENDING and planned.call.target:
                    await self._load(planned, planned.call.target, slots)
                if planned and planned.loaded:
                    outputs = planned.loaded.outputs
                else:
                    outputs = await self._host.call(spec, given, replace(target.node, id=name))
                made[name] = self._host.values(outputs)
        return {name: made[node][output] for name, (node, output) in links.items()}

    def _leave(self, slot: Slot, why: Problem) -> None:
        """Take a call of a workflow out of the plan: it turned out that it cannot be preloaded."""
        entry = slot.call.entry
        left = NotPreloaded(entry.workflow, entry.node.id if entry.node else "", entry.loader, why)
        log.info("%s: node %s (%s) is not preloaded: %s", left.workflow, left.node, left.loader, why.message)
        self.left = (*self.left, left)
        self._residency.drop(slot)

    def _explain(self, slot: Slot, error: BaseException, slots: Iterable[Slot]) -> Problem:
        line = slot.call.entry.line
        if self._host.is_interrupt(error):
            _interrupt(slots)
            return problem("interrupted", line=line)
        if self._host.is_out_of_memory(error):
            self._host.relieve()
            return problem("out_of_memory", line=line, loader=slot.call.entry.loader)
        self._readiness.blame(type(error), str(error))
        files = [file.path for file in slot.call.files]
        return replace(failure(slot.call.entry.loader, error, files), line=line)

    def push(self, slots: Iterable[Slot]) -> None:
        """Move what is loaded to its device, in order, as far as it fits, and log how much of it is there."""
        began = time.perf_counter()
        placements = self._push(slots)
        self._host.collect()
        if placements:
            log.info(
                "moved: %s of %s on %s (%.2f s)",
                gigabytes(sum(at.bytes_on_device for at in placements)),
                gigabytes(sum(at.bytes for at in placements)),
                " and ".join(sorted({at.device for at in placements})) or "no device",
                time.perf_counter() - began,
            )

    def _push(self, slots: Iterable[Slot]) -> list[Placement]:
        """Return where they really are afterwards. One that fails costs that one alone."""
        self._readiness.startup.enter(StartStage.PUSHING)
        pushed = [
            (slot, slot.loaded.outputs) for slot in slots if slot.loaded and slot.call.entry.device == "gpu"
        ]
        others = [slot.loaded.outputs for slot in self._residency.slots if slot.loaded]
        raised = self._host.push([outputs for _, outputs in pushed], beside=others)
        memory.trim()
        placements: list[Placement] = []
        for (slot, outputs), errors in zip(pushed, raised, strict=True):
            at = self._host.placement(outputs)
            placements.append(at)
            slot.see(at)
            for error in errors:
                self._readiness.blame(type(error), str(error))
                out = self._host.is_out_of_memory(error)
                reason = f"{at.device} is out of memory" if out else without_paths(str(error))
                log.error("%s stays in RAM: %s", slot.call.name, reason, exc_info=error)
        return placements

    def report(self) -> None:
        """Log a summary."""
        snapshot = self._readiness.snapshot()
        failing, slow = snapshot.failing(), snapshot.degraded()
        models = [m.name for m in snapshot.models if m.name in failing]
        warm_ups = [w.name for w in snapshot.warmups if w.name in failing]
        parts = [
            f"{counted(sum(m.state.loaded for m in snapshot.models), 'model')} loaded",
            f"{len(models)} failed ({listed(models)})" if models else "0 failed",
            *([f"{counted(len(warm_ups), 'workflow')} failed ({listed(warm_ups)})"] if warm_ups else []),
            *([f"{counted(len(slow), 'warm-up')} degraded ({listed(slow)})"] if slow else []),
        ]
        good = snapshot.status in (Status.READY, Status.LOADING, Status.WARMING)  # these after a restore
        level = logging.INFO if good and not (models or warm_ups) else logging.ERROR
        log.log(level, "%s: %s, %.2f s", snapshot.status.value, ", ".join(parts), snapshot.progress.seconds)
        cold = [slot for slot in self._residency.slots if slot.loaded and slot.warm_seconds is None]
        if any(self._host.placement(slot.loaded.outputs).dynamic for slot in cold if slot.loaded):
            log.warning(
                "dynamic VRAM: models are only staged; the first prompt moves the weights to the device. "
                "List a workflow with "
                "'warmup: true', or start ComfyUI with --highvram"
            )


def _interrupt(slots: Iterable[Slot]) -> None:
    for slot in slots:
        if slot.stage is Stage.PENDING:
            slot.fail(problem("interrupted", line=slot.call.entry.line))


def _is_plain(value: Any) -> bool:
    """Is it a setting, and so not a model?"""
    return bool(call_key("", {"value": value}))
