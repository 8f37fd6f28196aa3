"""Check periodically what changes by itself: the device, where models are, free memory.

Runs on the event loop.
"""

from __future__ import annotations

from contextlib import suppress

from comfy_preload.core.host import Host
from comfy_preload.core.log import log
from comfy_preload.core.machine import memory
from comfy_preload.core.state.jobs import Command
from comfy_preload.core.state.readiness import Readiness
from comfy_preload.core.state.residency import Residency
from comfy_preload.core.state.slot import Slot
from comfy_preload.core.state.snapshot import FreeMemory
from comfy_preload.core.state.tally import Tally
from comfy_preload.stages.planned_calls import planned_calls

INTERVAL = 2.0
"""Seconds between checks."""


class Watchdog:
    """Check every INTERVAL seconds for device errors, finished prompts, moved models and low memory."""

    def __init__(
        self, host: Host, residency: Residency, readiness: Readiness, tally: Tally, floor: float
    ) -> None:
        self.floor = floor
        self._host = host
        self._residency = residency
        self._readiness = readiness
        self._tally = tally

    def check(self) -> Slot | None:
        """Return the slot to release if memory is low: the least recently used one that is not required."""
        failures, prompts = self._host.news()
        for failed in failures:
            self._readiness.blame(failed.error, failed.reason)
        for one in prompts:
            self._tally.finish_prompt(one.ran, one.waited)
            cached = list(planned_calls(self._host, self._residency, one.cached))
            self._residency.finish(one, cached, alone=len(prompts) == 1)
        if not self._host.running_prompt():
            self._residency.rest()
        self._readiness.look()
        self.look_at_memory()
        share = memory.share_available()
        if share >= self.floor or self._readiness.is_pending(Command.RELEASE):
            return None
        spare = [slot for slot in self._residency.slots if slot.loaded and not slot.call.entry.required]
        if not spare:
            return None
        oldest = min(spare, key=lambda slot: slot.used)
        percent = (share * 100, self.floor * 100)
        log.warning(
            "%.1f %% of the memory is available, less than %.1f %%: releasing %s", *percent, oldest.call.name
        )
        return oldest

    def look_at_memory(self) -> None:
        """Note how much memory is free. Not done when it is requested: a device may take its time."""
        device: int | None = None
        with suppress(Exception):  # of a device that has failed
            device = self._host.free_device_memory() or None
        self._readiness.free = FreeMemory(memory.available(), device)
