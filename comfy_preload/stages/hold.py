"""Wait, before any port is open, until a platform has copied this process. Runs on the event loop.

Time is counted in steps: a frozen process, or a clock that is ahead after a restore, uses up no limit.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import psutil

from comfy_preload.core.errors import PreloadError, Problem, problem
from comfy_preload.core.log import log
from comfy_preload.core.machine import restored
from comfy_preload.core.machine.head_start import HeadStart
from comfy_preload.core.settings.glance import SnapshotGlance
from comfy_preload.core.state.readiness import Readiness
from comfy_preload.core.state.snapshot import Hold, HoldResult
from comfy_preload.stages.providers import GVISOR_ENVIRONMENT, Provider, Result, provider_of

POLL = 0.1
"""Seconds between two looks for an answer."""
MAX_STEP = 1.0
"""Seconds that one look can count; more is a jump of the clock."""
QUIET_TIMEOUT = 10.0
"""Seconds that threads that read have to end."""


async def hold(
    options: SnapshotGlance,
    head_start: HeadStart,
    why_not: Problem | None = None,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> Hold | None:
    """Announce this process to the provider and wait for its answer. Never raises.

    After a restore the environment, the random states and the names of temporary files are new ones.

    Args:
        options: The key `snapshot` of the settings.
        head_start: What may still be reading.
        why_not: Why no snapshot of this process is to be taken, if so.
        clock: Seconds, for tests.
        sleep: Waits that number of seconds, for tests.

    Returns:
        What has happened, or None if `auto` found no provider.
    """
    provider = provider_of(options)
    if provider is None:
        log.info("snapshot: no provider was found; the start goes on")
        return None
    environment = Path(options.environment) if options.environment else GVISOR_ENVIRONMENT
    before = restored.variables_in(environment)
    wrong = why_not or _announce(provider, head_start)
    if wrong:
        log.error("snapshot: %s", wrong)
        return Hold(options.when, provider.name, HoldResult.SKIPPED, problem=wrong)
    log.info(
        "snapshot: held (%s); %s may copy this process, for %g s", options.when, provider.name, options.limit
    )
    answer, counted, jumped = await _wait(provider, options.limit, clock, sleep)
    provider.close()
    done = Hold(options.when, provider.name, _RESULTS[answer], counted, jumped)
    if answer is Result.RESTORE:
        restored.reseed()
        names = restored.renew_environment(before, restored.variables_in(environment))
        log.info("snapshot: restored; the clock jumped by %.1f s; new variables: %d", jumped, len(names))
        return replace(done, restored=time.time())
    if answer is Result.RESUME:
        log.info("snapshot: resumed after %.1f s", counted)
        return done
    wrong = _why_none(answer, provider, options.limit)
    log.error("snapshot: %s", wrong)
    return replace(done, problem=wrong)


def _announce(provider: Provider, head_start: HeadStart) -> Problem | None:
    """Return why that was not possible, or None."""
    if not head_start.rest(QUIET_TIMEOUT):
        return problem("snapshot_busy", expected=f"{QUIET_TIMEOUT:g}")
    _warn_of_sockets()
    try:
        provider.announce()
    except PreloadError as error:
        return error.problem
    return None


def why_not_hold(readiness: Readiness) -> Problem | None:
    """Return why this process is not one to copy, or None."""
    snapshot = readiness.snapshot()
    required = {m.name for m in snapshot.models if m.required}
    required |= {w.name for w in snapshot.warmups if w.required}
    failed = [name for name in snapshot.failing() if name in required]
    reasons = [f"{name} is failed" for name in failed[:3]] or [p.message for p in snapshot.problems[:1]]
    if readiness.is_draining:
        reasons = ["SIGTERM came"]
    return problem("snapshot_not_wanted", reason="; ".join(reasons)) if reasons else None


async def _wait(
    provider: Provider, limit: float, clock: Callable[[], float], sleep: Callable[[float], Awaitable[None]]
) -> tuple[Result | None, float, float]:
    """Return the answer, the seconds that counted, and those by which the clock jumped besides."""
    counted = jumped = 0.0
    last = clock()
    while (answer := provider.answer()) is None and counted < limit:
        await sleep(POLL)
        now = clock()
        step = min(max(now - last, 0.0), MAX_STEP)
        counted += step
        jumped += now - last - step
        last = now
    return answer, counted, jumped


_RESULTS = {
    Result.RESTORE: HoldResult.RESTORED,
    Result.RESUME: HoldResult.RESUMED,
    Result.ERROR: HoldResult.FAILED,
    None: HoldResult.UNANSWERED,
}


def _why_none(answer: Result | None, provider: Provider, limit: float) -> Problem:
    if answer is None:
        return problem("snapshot_unanswered", provider=provider.name, expected=f"{limit:g}")
    return problem("snapshot_failed", provider=provider.name, reason=provider.reason)


def _warn_of_sockets() -> None:
    """Name open connections and listeners of other plugins: most platforms cannot copy a process with one."""
    process = psutil.Process()
    listed = getattr(process, "net_connections", None) or process.connections  # since psutil 6
    try:
        found = sorted({f"{one.laddr.port} ({one.status})" for one in listed(kind="inet") if one.laddr})
    except (psutil.Error, OSError):
        return
    if found:
        log.warning("snapshot: %s", problem("snapshot_socket_open", found=", ".join(found[:10])))
