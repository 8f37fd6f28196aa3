"""Run the commands reload, release, sleep and wake.

What touches a model runs in jobs on the prompt worker.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable
from dataclasses import replace

from comfy_preload.core.errors import Problem, problem, unknown_model
from comfy_preload.core.host import Host, Placement, all_there
from comfy_preload.core.log import log
from comfy_preload.core.planning.call import LoaderCall
from comfy_preload.core.planning.plan import Plan
from comfy_preload.core.settings.validation import Settings
from comfy_preload.core.state.jobs import Command, Job, JobState
from comfy_preload.core.state.readiness import Readiness
from comfy_preload.core.state.residency import Residency
from comfy_preload.core.state.slot import Slot, Stage, file_stamp
from comfy_preload.core.state.snapshot import Phase, Status
from comfy_preload.core.text import gigabytes, listed, summary
from comfy_preload.stages.loading import Loading
from comfy_preload.stages.planning import Planned, make_plan

Rest = Callable[[], Awaitable[Planned | None]]
"""The second half of a command.

Before it, ComfyUI lets go of the outputs of all nodes, and of models that nobody holds.
"""


class Commands:
    """The four commands. A command changes what is loaded only after it is known to work."""

    def __init__(
        self,
        host: Host,
        residency: Residency,
        readiness: Readiness,
        loading: Loading,
        reread: Callable[[], Settings],
    ) -> None:
        """`reread` returns the current settings of the file."""
        self._host = host
        self._residency = residency
        self._readiness = readiness
        self._loading = loading
        self._reread = reread

    async def run(self, job: Job, *, front: bool = False) -> Planned | None:
        """Run the job; it has failed if it has problems afterwards. On the event loop.

        Return what a reload of everything found, for those that follow the settings file; None after anything
        else. `front`: before the prompts that wait.
        """
        rest: Rest | None = None
        planned: Planned | None = None

        async def first() -> None:
            nonlocal rest
            job.move(JobState.RUNNING)
            self._readiness.announce()
            rest = await self._begin(job)

        async def second() -> None:
            nonlocal planned
            self._host.collect()
            planned = await rest() if rest else None

        await asyncio.wrap_future(self._host.submit(first, front=front))
        if rest:
            await asyncio.wrap_future(self._host.submit(second, front=True))
        return planned

    # -- in the thread that runs prompts ----------------------------------------------------------

    async def _begin(self, job: Job) -> Rest | None:
        """Do what can be done at once. Return the rest, for when ComfyUI has let go of what was released."""
        if job.command is Command.RELOAD:
            return await self._reload(job)
        if job.command is Command.RELEASE:
            return self._release(job)
        if job.command is Command.SLEEP:
            self._sleep(job)
        else:
            self._loading.push([slot for slot in self._residency.slots if slot.loaded])
        return None

    def _release(self, job: Job) -> Rest:
        slots = [
            slot for slot in self._residency.slots if slot.loaded and job.model in (None, slot.call.name)
        ]
        for slot in slots:
            slot.evictions += job.reason == "memory"
        self._let_go(slots)
        job.released = _names(slots)

        async def rest() -> None:
            log.info("released %s (%s)", listed(job.released) or "nothing", job.reason)

        return rest

    def _let_go(self, slots: Iterable[Slot]) -> None:
        """Release these, and have the executor forget them too: its cache may hold the same models."""
        for slot in slots:
            slot.release()
        # Asks the device: a dead one is found here, and not by the prompt worker, which it would end.
        self._host.collect()
        self._host.empty_cache()

    def _sleep(self, job: Job) -> None:
        slots = [slot for slot in self._residency.slots if slot.loaded]
        before = self._placements(slots)
        self._host.relieve()
        self._host.collect()
        if self._readiness.phase is Phase.SETTLED:
            self._readiness.move(Phase.SLEEPING)
        left = self._placements(slots)
        for slot, was, now in zip(slots, before, left, strict=True):
            slot.taken = max(slot.taken, was.bytes_on_device - now.bytes_on_device)
            slot.seen_there = False  # it was no eviction
        held = sum(at.bytes_off_cpu for at in left)
        if held:
            devices = " and ".join(sorted({at.device for at in left if at.bytes_off_cpu}))
            job.problems = (problem("not_freed", found=gigabytes(held), device=devices),)
        log.info("sleeping: %s left on the device", gigabytes(held))

    def is_cold(self) -> bool:
        """Something that a warm-up had brought to its device is not there.

        Only another warm-up brings it back.
        """
        slots = [slot for slot in self._residency.slots if slot.loaded and slot.warm_bytes]
        return any(not slot.is_there(at) for slot, at in zip(slots, self._placements(slots), strict=True))

    def end_wake(self, job: Job) -> None:
        """Compare with what `sleep` took, or what something else took that was there before.

        After the warm-ups.
        """
        slots = [slot for slot in self._residency.slots if slot.loaded]
        placed = list(zip(slots, self._placements(slots), strict=True))
        job.loaded = _names(slot for slot, at in placed if slot.is_there(at))
        missing = _names(slot for slot, at in placed if not self._is_back(slot, at))
        if missing:
            names = ", ".join(missing[:10]) + (", …" if len(missing) > 10 else "")
            job.problems = (*job.problems, problem("not_restored", found=names, count=len(missing)))
            log.error("%s", job.problems[-1])
        for slot in slots:
            slot.taken = 0
        if self._readiness.phase is Phase.SLEEPING:
            self._readiness.move(Phase.SETTLED)
        self._loading.report()

    def _is_back(self, slot: Slot, at: Placement) -> bool:
        if slot.call.entry.device == "ram" or not at.stays:
            return True  # it is not to be there
        expected = slot.taken or (slot.warm_bytes or at.bytes if slot.was_resident else 0)
        return all_there(at.bytes_on_device, expected)

    def _placements(self, slots: Iterable[Slot]) -> list[Placement]:
        return [self._host.placement(slot.loaded.outputs) for slot in slots if slot.loaded]

    # -- reload -----------------------------------------------------------------------------------

    async def _reload(self, job: Job) -> Rest | None:
        """Load new models beside the old ones; then switch, or keep the old ones if a new one does not load.

        Where memory cannot hold both, the old ones are released first. The new files have been checked by
        then, so a broken file still keeps the old models.
        """
        settings = self._reread()
        if settings.problems:
            return self._keep_old(job, settings.problems)
        planned = make_plan(settings, self._host)
        if problems := self._broken_workflows(planned):
            return self._keep_old(job, problems)
        calls = self._wanted(job, planned.plan)
        if not calls and job.model:
            return self._keep_old(
                job, (unknown_model(job.model, [call.name for call in planned.plan.calls]),)
            )
        kept = {call.name: slot for call in calls if (slot := self._carried(call))}
        gone = self._replaced(job, kept.values())
        freed = sum(at.bytes for at in self._placements(gone))
        new = Plan(tuple(call for call in calls if call.name not in kept))
        checked = self._loading.check(new, to_be_freed=freed)
        fresh = [Slot.of(call, checked.bytes[call.name]) for call in checked.plan.calls]
        self._loading.watch(slot.call for slot in fresh)
        self._residency.expect(fresh)
        beside = self._loading.fits_beside(fresh)
        if beside:
            await self._loading.load(fresh, push=False)
            fresh = [slot for slot in fresh if not slot.dropped]
        if lost := self._would_lose(fresh):
            self._residency.expect(())
            self._loading.unwatch_others(slot.call for slot in self._residency.slots)
            self._loading.push(
                self._residency.slots
            )  # a loader that ran out of memory has cleared the device
            return self._keep_old(job, lost)
        if not beside:
            log.info("memory cannot hold the old beside the new: %s let go first", ", ".join(_names(gone)))
        job.kept, job.released = tuple(kept), _names(gone)
        self._change_over(job, planned.plan, [*kept.values(), *fresh], gone)

        async def rest() -> Planned | None:
            sleeping = self._readiness.phase is Phase.SLEEPING
            await self._loading.load(fresh, push=not sleeping)
            if not sleeping:
                self._loading.push(self._residency.slots)
            job.loaded = _names(slot for slot in fresh if slot.loaded)
            job.problems = () if beside else tuple(p for slot in fresh for p in slot.problems)
            self._loading.report()
            return planned if job.model is None else None

        return rest

    def _replaced(self, job: Job, kept: Collection[Slot]) -> list[Slot]:
        """Return what the reload does away with."""
        still = {id(slot.loaded) for slot in kept}
        mine = (slot for slot in self._residency.slots if job.model in (None, slot.call.name))
        return [slot for slot in mine if slot.loaded and id(slot.loaded) not in still]

    def _broken_workflows(self, planned: Planned) -> tuple[Problem, ...]:
        """Return the problems of required workflows that can no longer be read."""
        failing = self._readiness.snapshot().failing()
        broken = (one.row for one in planned.runs if one.row.required and one.row.name not in failing)
        return tuple(wrong for row in broken for wrong in row.problems)

    def _wanted(self, job: Job, plan: Plan) -> list[LoaderCall]:
        return [call for call in plan.calls if job.model in (None, call.name)]

    def _carried(self, call: LoaderCall) -> Slot | None:
        """Return the loaded slot of the same call and files, with the current name and options, or None."""
        if call.target is None or call.problems:
            return None
        target, now = call.target, file_stamp(call.paths)
        same = (s for s in self._residency.slots if s.call.target and s.call.target.key == target.key)
        slot = next(
            (s for s in same if s.loaded and (now, target.changes) == (s.loaded.stamp, s.loaded.changes)),
            None,
        )
        return replace(slot, call=call) if slot else None

    def _would_lose(self, fresh: Iterable[Slot]) -> tuple[Problem, ...]:
        """Return why not to switch: problems of models that work now and would not afterwards."""
        now = self._readiness.snapshot()
        serves = now.serves or now.status is Status.SLEEPING
        lost: list[Problem] = []
        for slot in fresh:
            if slot.stage is Stage.FAILED:
                before = self._residency.find(slot.call.name)
                if (before and before.loaded) or (serves and slot.call.entry.required):
                    lost += [replace(p, message=f"{slot.call.name}: {p.message}") for p in slot.problems]
        return tuple(lost)

    def _change_over(self, job: Job, plan: Plan, slots: list[Slot], gone: Collection[Slot]) -> None:
        now = {slot.call.name: slot for slot in slots}
        if job.model is None:
            order = [call.name for call in plan.calls]
        else:  # the other models do not change, whatever the file says
            now = {slot.call.name: slot for slot in self._residency.slots} | now
            order = list(now)
        self._residency.reset(now[name] for name in order if name in now)
        self._loading.unwatch_others(slot.call for slot in self._residency.slots)
        self._readiness.clear_problems()
        self._let_go(gone)

    def _keep_old(self, job: Job, reasons: tuple[Problem, ...]) -> None:
        """Fail the job with these problems; nothing has changed."""
        reason = summary(wrong.message for wrong in reasons)
        job.problems = (problem("reload_kept_old", reason=reason),)
        log.error("%s", job.problems[0])


def _names(slots: Iterable[Slot]) -> tuple[str, ...]:
    return tuple(slot.call.name for slot in slots)
