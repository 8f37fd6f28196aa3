"""Run workflows before traffic arrives, so that the first prompt has nothing left to prepare.

Then measure whether that is so. On the event loop.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from comfy_preload.core.errors import Problem, problem
from comfy_preload.core.host import INTERRUPTED, Failed, Host
from comfy_preload.core.log import log
from comfy_preload.core.planning.expansion import Runs
from comfy_preload.core.planning.rows import Profile, WarmUp, WarmUpState
from comfy_preload.core.state.readiness import Readiness
from comfy_preload.core.state.residency import Residency
from comfy_preload.core.state.slot import Slot
from comfy_preload.core.state.snapshot import Phase
from comfy_preload.core.text import without_paths
from comfy_preload.stages.planned_calls import planned_calls

MAX_RATIO = 1.05
"""First ÷ steady up to which a profile is warm."""
MEASURED = 2
"""Runs of a profile after all warm-ups, with `verify`: the first and a steady one."""


class WarmUps:
    """The workflows of the plan, and which of them have run."""

    def __init__(
        self,
        host: Host,
        residency: Residency,
        readiness: Readiness,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._host = host
        self._clock = clock
        self._residency = residency
        self._readiness = readiness
        self._runs: tuple[Runs, ...] = ()
        self._spent: dict[str, float] = {}
        """Seconds that each warm-up has taken, of its `budget`."""
        self._stuck = False
        """A prompt of ours does not end: what is queued behind it would wait as long."""
        self._took: list[float] = []
        """Seconds of each run."""
        self._to_run = 0

    def take(self, runs: Sequence[Runs], *, keep: bool = False) -> None:
        """Adopt the workflows of a new plan. `keep`: no model changed, so unchanged warm-ups stay warm."""
        warm = {one.row.name: one for one in self._runs if keep and one.row.state is WarmUpState.WARM}
        before = [warm.get(one.row.name, one) for one in runs]
        self._set(
            tuple(
                old if (old.prompts, old.verify) == (new.prompts, new.verify) else new
                for old, new in zip(before, runs, strict=True)
            )
        )

    async def run(self) -> tuple[Problem, ...]:
        """Run the pending warm-ups, one after another, then measure those that ask for it.

        A failure does not affect the others. Returns the problems of those that failed.
        """
        names = [one.row.name for one in self._runs if one.row.state is WarmUpState.PENDING]
        if names and self._readiness.phase is Phase.LOADING:
            self._readiness.move(Phase.WARMING)
        self._spent, self._took, self._stuck = {}, [], False
        self._to_run = sum(
            len(one.prompts) * (1 + MEASURED * one.verify) for one in self._runs if one.row.name in names
        )
        for one in [one for one in self._runs if one.row.name in names]:
            self._show(await self._warm(one))
        for one in [one for one in self._runs if one.row.name in names and one.verify]:
            if one.row.state is WarmUpState.WARM:
                self._show(await self._measure(one))
        failed = [one.row for one in self._runs if one.row.state is WarmUpState.FAILED]
        return tuple(wrong for row in failed if row.name in names for wrong in row.problems)

    async def repeat(self) -> tuple[Problem, ...]:
        """Run once more what has run, for models that left their device meanwhile.

        Returns what went wrong.
        """
        self._set(tuple(_again(one) for one in self._runs))
        return await self.run()

    async def _warm(self, runs: Runs) -> WarmUp:
        """Run each profile once."""
        row = replace(runs.row, state=WarmUpState.RUNNING)
        if runs.partner_nodes:
            return _skipped(row, _needs_login(row.name, ", ".join(runs.partner_nodes)))
        began = self._clock()
        wrong: list[Problem] = []
        for number, profile in enumerate(row.profiles):
            row = self._put(row, number, replace(profile, state=WarmUpState.RUNNING))
            ran = await self._run(runs, number)
            if isinstance(ran, Problem) and ran.code == "warmup_needs_login":
                return _skipped(row, ran)
            wrong += [ran] if isinstance(ran, Problem) else []
            row = self._put(row, number, _after_warm_up(profile, ran))
        row = replace(row, seconds=self._clock() - began)
        if any(profile.state is WarmUpState.WARM for profile in row.profiles):
            row = self._attribute(row, runs, began)
            log.info("warmed up with %s: %s (%.2f s)", row.name, "; ".join(row.shapes), row.seconds)
        if wrong:
            return replace(row, state=WarmUpState.FAILED, problems=tuple(dict.fromkeys(wrong)))
        return self._with_left_out(row, runs, WarmUpState.SKIPPED)

    async def _measure(self, runs: Runs) -> WarmUp:
        """Run each warm profile twice more: a first and a steady time, as a user's prompts would find it."""
        row = replace(runs.row, state=WarmUpState.RUNNING)
        wrong: list[Problem] = []
        for number, profile in enumerate(row.profiles):
            if profile.state is not WarmUpState.WARM:
                continue
            row = self._put(row, number, replace(profile, state=WarmUpState.RUNNING))
            first = await self._run(runs, number, fresh=True)
            steady = await self._run(runs, number, fresh=True) if isinstance(first, float) else first
            if isinstance(steady, Problem):
                wrong.append(steady)
                row = self._put(row, number, replace(profile, state=WarmUpState.FAILED))
            elif isinstance(first, float) and steady is not None:
                measured = replace(profile, first=first, steady=steady)
                wrong += _judged(row.name, measured)
                row = self._put(row, number, _with_verdict(measured))
            else:
                row = self._put(row, number, profile)
        states = [profile.state for profile in row.profiles]
        worst = [state for state in (WarmUpState.FAILED, WarmUpState.DEGRADED) if state in states]
        if worst:
            return replace(row, state=worst[0], problems=tuple(wrong))
        return self._with_left_out(row, runs, WarmUpState.WARM)

    async def _run(self, runs: Runs, number: int, *, fresh: bool = False) -> float | Problem | None:
        """Run one profile within its limit and what is left of the budget.

        Returns the seconds that it ran, what went wrong, or None if it is left out.
        `fresh`: no node is answered from ComfyUI's cache.
        """
        name = runs.row.name
        left = runs.budget - self._spent.get(name, 0.0)
        self._to_run -= 1
        if left <= 0 or self._stuck:
            return None
        began, limit = self._clock(), min(runs.limit, left)
        doing = "measuring" if fresh else "warming up with"
        log.info("%s %s: %s (at most %g s)", doing, name, runs.row.profiles[number].shape, limit)
        ran = await self._host.run(runs.prompts[number], limit, runs.editor, fresh=fresh)
        if isinstance(ran, Failed) and ran.reason == INTERRUPTED:
            # a user who presses cancel means their own prompt
            ran = await self._host.run(runs.prompts[number], limit, runs.editor, fresh=fresh)
        took = self._clock() - began
        self._spent[name] = self._spent.get(name, 0.0) + took
        if not isinstance(ran, Failed):
            self._took.append(took)
            return ran
        self._stuck = ran.stuck
        if ran.overtime and left < runs.limit and not ran.stuck:
            return None
        if _LOGIN.search(ran.reason):
            return _needs_login(name, ran.node_type or ran.node)
        self._readiness.blame(ran.error, ran.reason)
        wrong = _problem(name, runs.row.profiles[number].shape, ran, took, limit)
        log.error("%s", wrong)
        return wrong

    def _attribute(self, row: WarmUp, runs: Runs, began: float) -> WarmUp:
        """Note which models the warm-up used, and how much of each is on its device now."""
        used = [(slot, slot.loaded.outputs) for slot in self._used(runs, began) if slot.loaded]
        for slot, outputs in used:
            at = self._host.placement(outputs)
            slot.warm_seconds, slot.warm_bytes = row.seconds, at.bytes_on_device
            slot.see(at)
        dtypes = dict.fromkeys(name for _, outputs in used for name in self._host.dtypes(outputs))
        return replace(row, dtypes=tuple(dtypes), models=tuple(slot.call.name for slot, _ in used))

    def _used(self, runs: Runs, began: float) -> list[Slot]:
        """Return the slots that were recalled since then, or that ComfyUI's cache stood in for."""
        nodes = [(node["class_type"], node["inputs"]) for node in runs.prompts[0].values()]
        calls = planned_calls(self._host, self._residency, nodes)
        named = [self._residency.slot_of(spec, arguments) for spec, arguments in calls]
        return [
            slot for slot in self._residency.slots if slot.used >= began or any(slot is one for one in named)
        ]

    def _with_left_out(self, row: WarmUp, runs: Runs, state: WarmUpState) -> WarmUp:
        """Name the profiles for which the budget was too small: they are in this state, and not measured."""
        left = [one.shape for one in row.profiles if one.state is state and one.first is None]
        if not left:
            return replace(row, state=WarmUpState.WARM)
        reason = (
            "an earlier warm-up does not end"
            if self._stuck
            else f"its budget of {runs.budget:g} s was used up"
        )
        what = "left out" if state is WarmUpState.SKIPPED else "not measured"
        note = problem("warmup_left_out", workflow=row.name, what=what, shapes="; ".join(left), reason=reason)
        log.warning("%s", note)
        if state is WarmUpState.SKIPPED and len(left) == len(row.profiles):
            return replace(row, state=WarmUpState.DEGRADED, problems=(note,))
        return replace(row, state=WarmUpState.WARM, notes=tuple(dict.fromkeys((*row.notes, note))))

    def _put(self, row: WarmUp, number: int, profile: Profile) -> WarmUp:
        """Replace a profile of the row, and show it."""
        profiles = (*row.profiles[:number], profile, *row.profiles[number + 1 :])
        row = replace(row, profiles=profiles)
        self._show(row)
        return row

    def _show(self, row: WarmUp) -> None:
        self._set(tuple(replace(one, row=row) if one.row.name == row.name else one for one in self._runs))

    def _set(self, runs: tuple[Runs, ...]) -> None:
        self._runs = runs
        left = sum(self._took) / len(self._took) * self._to_run if self._took else None
        self._readiness.show(tuple(one.row for one in runs), left)


_LOGIN = re.compile(r"unauthorized: please login|please log ?in first|login required", re.IGNORECASE)
"""What partner nodes raise without a user (comfy_api_nodes/apis/client.py)."""


def _again(runs: Runs) -> Runs:
    """Return a warm-up that has run as one that is to run."""
    row = runs.row
    if row.state not in (WarmUpState.WARM, WarmUpState.DEGRADED):
        return runs
    profiles = tuple(Profile(profile.shape) for profile in row.profiles)
    return replace(runs, row=replace(row, state=WarmUpState.PENDING, profiles=profiles, problems=()))


def _after_warm_up(profile: Profile, ran: float | Problem | None) -> Profile:
    if isinstance(ran, float):
        return replace(profile, state=WarmUpState.WARM, seconds=ran)
    return replace(profile, state=WarmUpState.FAILED if ran else WarmUpState.SKIPPED)


def _with_verdict(measured: Profile) -> Profile:
    steady = measured.ratio is not None and measured.ratio <= MAX_RATIO
    return replace(measured, state=WarmUpState.WARM if steady else WarmUpState.DEGRADED)


def _judged(workflow: str, measured: Profile) -> list[Problem]:
    """Log the figures. Return the problem if the first run took too much longer than the steady one."""
    ratio = measured.ratio or 0.0
    figures = (workflow, measured.shape, measured.first, measured.steady, ratio)
    log.info("measured %s: %s: first %.3f s, steady %.3f s, ratio %.3f", *figures)
    if ratio <= MAX_RATIO:
        return []
    unsteady = problem(
        "warmup_unsteady",
        workflow=workflow,
        shape=measured.shape,
        found=f"{ratio:.2f}",
        expected=f"{MAX_RATIO:g}",
    )
    log.warning("%s", unsteady)
    return [unsteady]


def _needs_login(workflow: str, nodes: str) -> Problem:
    """Partner nodes run for a user who is logged in: that nobody is at start-up is not a fault."""
    return problem("warmup_needs_login", workflow=workflow, nodes=nodes)


def _skipped(row: WarmUp, why: Problem) -> WarmUp:
    log.warning("%s", why)
    profiles = tuple(replace(profile, state=WarmUpState.SKIPPED) for profile in row.profiles)
    return replace(row, state=WarmUpState.SKIPPED, profiles=profiles, notes=(*row.notes, why))


def _problem(workflow: str, shape: str, failed: Failed, seconds: float, limit: float) -> Problem:
    node, node_type = failed.node or "?", failed.node_type or "?"
    if failed.overtime:
        return problem(
            "warmup_too_long",
            workflow=workflow,
            shape=shape,
            found=f"{seconds:.0f}",
            expected=f"{limit:g}",
        )
    if failed.missing:
        return problem(
            "warmup_file_missing",
            workflow=workflow,
            node=node,
            node_type=node_type,
            file=failed.missing,
            kind=failed.reason,
        )
    reason = without_paths(failed.reason) or "no reason"
    return problem("warmup_failed", workflow=workflow, node=node, node_type=node_type, reason=reason)
