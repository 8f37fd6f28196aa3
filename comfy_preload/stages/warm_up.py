"""Run workflows once before traffic arrives, so that the first prompt has nothing left to prepare.

On the event loop.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from comfy_preload.core.errors import Problem, problem
from comfy_preload.core.host import INTERRUPTED, Failed, Host
from comfy_preload.core.log import log
from comfy_preload.core.planning.expansion import Runs
from comfy_preload.core.state.readiness import Readiness
from comfy_preload.core.state.residency import Residency
from comfy_preload.core.state.snapshot import Phase, WarmUp, WarmUpState
from comfy_preload.core.text import without_paths


class WarmUps:
    """The workflows of the plan, and which of them have run."""

    def __init__(self, host: Host, residency: Residency, readiness: Readiness) -> None:
        self._host = host
        self._residency = residency
        self._readiness = readiness
        self._runs: tuple[Runs, ...] = ()

    def take(self, runs: Sequence[Runs], *, keep: bool = False) -> None:
        """Adopt the workflows of a new plan. `keep`: no model changed, so unchanged warm-ups stay warm."""
        warm = {one.row.name: one for one in self._runs if keep and one.row.state is WarmUpState.WARM}
        before = [warm.get(one.row.name, one) for one in runs]
        self._set(
            tuple(old if old.prompts == new.prompts else new for old, new in zip(before, runs, strict=True))
        )

    async def run(self) -> tuple[Problem, ...]:
        """Run the pending warm-ups, one after another, and return their problems.

        A failure does not affect the others.
        """
        waiting = [one for one in self._runs if one.row.state is WarmUpState.PENDING]
        if waiting and self._readiness.phase is Phase.LOADING:
            self._readiness.move(Phase.WARMING)
        for one in waiting:
            self._show(replace(one.row, state=WarmUpState.RUNNING))
            self._show(await self._run(one))
        names = {one.row.name for one in waiting}
        return tuple(wrong for one in self._runs if one.row.name in names for wrong in one.row.problems)

    async def repeat(self) -> tuple[Problem, ...]:
        """Run once more what is warm, for models that left their device meanwhile.

        Returns what went wrong.
        """
        warm = WarmUpState.WARM
        self._set(
            tuple(
                replace(one, row=replace(one.row, state=WarmUpState.PENDING))
                if one.row.state is warm
                else one
                for one in self._runs
            )
        )
        return await self.run()

    async def _run(self, runs: Runs) -> WarmUp:
        name, row = runs.row.name, runs.row
        if runs.partner_nodes:
            return self._skipped(row, runs.partner_nodes)
        began = time.monotonic()
        for prompt, shape in zip(runs.prompts, row.shapes, strict=True):
            log.info("warming up with %s: %s (at most %g s)", name, shape, runs.limit)
            started = time.monotonic()
            failed = await self._run_prompt(prompt, runs)
            if failed is None:
                continue
            if _LOGIN.search(failed.reason):
                return self._skipped(row, (failed.node_type or failed.node,))
            self._readiness.blame(failed.error, failed.reason)
            wrong = _problem(name, failed, time.monotonic() - started, runs.limit)
            log.error("%s", wrong)
            return replace(row, state=WarmUpState.FAILED, problems=(wrong,))
        seconds = time.monotonic() - began
        used = [
            (slot, slot.loaded.outputs)
            for slot in self._residency.slots
            if slot.loaded and slot.used >= began
        ]
        for slot, outputs in used:
            at = self._host.placement(outputs)
            slot.warm_seconds, slot.warm_bytes = seconds, at.bytes_on_device
            slot.see(at)
        dtypes = dict.fromkeys(name for _, outputs in used for name in self._host.dtypes(outputs))
        log.info("warmed up with %s: %s (%.2f s)", runs.row.name, "; ".join(runs.row.shapes), seconds)
        return replace(runs.row, state=WarmUpState.WARM, seconds=seconds, dtypes=tuple(dtypes))

    async def _run_prompt(self, prompt: Mapping[str, Any], runs: Runs) -> Failed | None:
        """Run it once more if it was cancelled: whoever presses cancel means their own prompt."""
        failed = await self._host.run(prompt, runs.limit, runs.editor)
        if failed and failed.reason == INTERRUPTED:
            failed = await self._host.run(prompt, runs.limit, runs.editor)
        return failed

    def _skipped(self, row: WarmUp, nodes: Sequence[str]) -> WarmUp:
        """Partner nodes run for a user who is logged in: that nobody is at start-up is no fault."""
        why = problem("warmup_needs_login", workflow=row.name, nodes=", ".join(nodes))
        log.warning("%s", why)
        return replace(row, state=WarmUpState.SKIPPED, notes=(*row.notes, why))

    def _show(self, row: WarmUp) -> None:
        self._set(tuple(replace(one, row=row) if one.row.name == row.name else one for one in self._runs))

    def _set(self, runs: tuple[Runs, ...]) -> None:
        self._runs = runs
        self._readiness.show(tuple(one.row for one in runs))


_LOGIN = re.compile(r"unauthorized: please login|please log ?in first|login required", re.IGNORECASE)
"""What partner nodes raise without a user (comfy_api_nodes/apis/client.py)."""


def _problem(workflow: str, failed: Failed, seconds: float, limit: float) -> Problem:
    node, node_type = failed.node or "?", failed.node_type or "?"
    if failed.overtime:
        return problem("warmup_too_long", workflow=workflow, found=f"{seconds:.0f}", expected=f"{limit:g}")
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
