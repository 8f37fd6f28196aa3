"""Run the commands reload, release, sleep and wake, each as a job on the prompt worker."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from comfy_preload.core.errors import Problem, problem, unknown_model
from comfy_preload.core.host import Host
from comfy_preload.core.log import log
from comfy_preload.core.planning.plan import LoaderCall, Plan
from comfy_preload.core.planning.preflight import gigabytes
from comfy_preload.core.settings.validation import Settings
from comfy_preload.core.state.jobs import Command, Job
from comfy_preload.core.state.readiness import Readiness
from comfy_preload.core.state.residency import Residency, Slot, Stage, identify
from comfy_preload.core.state.snapshot import Phase, Status
from comfy_preload.stages.loading import Loading
from comfy_preload.stages.planning import Planned, make_plan


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

    async def run(self, job: Job) -> Planned | None:
        """Run the job; it has failed if it has problems afterwards.

        Return what a reload of everything has read, for stages that depend on the settings; None otherwise.
        """
        if job.command is Command.RELOAD:
            return await self._reload(job)
        if job.command is Command.RELEASE:
            self._release(job)
        elif job.command is Command.SLEEP:
            self._sleep(job)
        else:
            self._wake(job)
        return None

    def _release(self, job: Job) -> None:
        slots = [
            slot for slot in self._residency.slots if slot.loaded and job.model in (None, slot.call.name)
        ]
        for slot in slots:
            slot.evictions += job.reason == "memory"
            slot.release()
        self._host.collect()
        job.released = _names(slots)
        log.info("released %s (%s)", ", ".join(job.released) or "nothing", job.reason)

    def _sleep(self, job: Job) -> None:
        self._host.relieve()
        if self._readiness.phase is Phase.SETTLED:
            self._readiness.move(Phase.SLEEPING)
        left = [self._host.placement(s.loaded.outputs) for s in self._residency.slots if s.loaded]
        on_device = sum(at.bytes_on_device for at in left)
        if on_device:
            devices = " and ".join(sorted({at.device for at in left}))
            job.problems = (problem("not_freed", found=gigabytes(on_device), device=devices),)
        log.info("sleeping: models are in RAM, %s left on the device", gigabytes(on_device))

    def _wake(self, job: Job) -> None:
        slots = [slot for slot in self._residency.slots if slot.loaded]
        self._loading.push(slots)
        if self._readiness.phase is Phase.SLEEPING:
            self._readiness.move(Phase.SETTLED)
        job.loaded = _names(slots)
        self._loading.report()

    # -- reload -----------------------------------------------------------------------------------

    async def _reload(self, job: Job) -> Planned | None:
        """Load new models beside the old ones; then switch, or keep the old ones."""
        settings = self._reread()
        if settings.problems:
            return self._keep_old(job, settings.problems)
        planned = make_plan(settings, self._host)
        plan = planned.plan
        if problems := self._broken_workflows(planned):
            return self._keep_old(job, problems)
        calls = self._wanted(job, plan)
        if not calls and job.model:
            return self._keep_old(job, (unknown_model(job.model, [call.name for call in plan.calls]),))
        kept = {call.name: slot for call in calls if (slot := self._carried(call))}
        checked = self._loading.check(Plan(tuple(call for call in calls if call.name not in kept)))
        fresh = [Slot.of(call, checked.bytes[call.name]) for call in checked.plan.calls]
        self._loading.watch(slot.call for slot in fresh)
        self._residency.expect(fresh)
        await self._loading.load(fresh)
        if lost := self._would_lose(fresh):
            self._residency.expect(())
            self._loading.unwatch_others(slot.call for slot in self._residency.slots)
            return self._keep_old(job, lost)
        job.kept = tuple(kept)
        self._change_over(job, plan, [*kept.values(), *fresh])
        return planned if job.model is None else None

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
        target, now = call.target, identify(call.files)
        same = (s for s in self._residency.slots if s.call.target and s.call.target.key == target.key)
        slot = next(
            (s for s in same if s.loaded and (now, target.changes) == (s.loaded.identity, s.loaded.changes)),
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

    def _change_over(self, job: Job, plan: Plan, slots: list[Slot]) -> None:
        now = {slot.call.name: slot for slot in slots}
        if job.model is None:
            order = [call.name for call in plan.calls]
        else:  # the other models do not change, whatever the file says
            now = {slot.call.name: slot for slot in self._residency.slots} | now
            order = list(now)
        still = {id(slot.loaded) for slot in now.values()}
        gone = [slot for slot in self._residency.slots if slot.loaded and id(slot.loaded) not in still]
        self._residency.reset(now[name] for name in order)
        self._loading.unwatch_others(slot.call for slot in self._residency.slots)
        self._readiness.clear_problems()
        self._host.collect()
        if self._readiness.phase is Phase.SETTLED:
            self._loading.push(slot for slot in now.values())
        job.loaded = _names(slot for slot in slots if slot.loaded and slot.call.name not in job.kept)
        job.released = _names(gone)
        self._loading.report()

    def _keep_old(self, job: Job, reasons: tuple[Problem, ...]) -> None:
        """Fail the job with these problems; nothing has changed."""
        reason = "; ".join(p.message for p in reasons[:3]) + ("; …" if len(reasons) > 3 else "")
        job.problems = (problem("reload_kept_old", reason=reason), *reasons)
        log.error("%s", job.problems[0])


def _names(slots: Iterable[Slot]) -> tuple[str, ...]:
    return tuple(slot.call.name for slot in slots)
