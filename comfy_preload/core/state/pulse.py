"""Whether ComfyUI's event loop runs and its prompt worker lives.

What a probe port with its own thread cannot see.

A thread of ours counts its own seconds without a beat of the loop. It needs the interpreter as the loop does.
So time in which nothing of the process could run (a loader holds the interpreter, the container is frozen,
the clock jumps) is not counted; a clock would count it.
"""

from __future__ import annotations

import asyncio
import threading
import time

from comfy_preload.core.errors import Problem, problem

BEAT = 0.5
"""Seconds between two beats of the event loop."""
COUNT = 1.0
"""Seconds between two counts of the thread; longer, so that each of them usually finds a beat."""
MAX_SILENT = 10
"""Seconds without a beat after which /ready is 503."""
MAX_SILENT_ALIVE = 60
"""Seconds without a beat after which /livez is 503."""


class Pulse:
    """Beats of the event loop, counted by a thread. Before `start` nothing is judged."""

    def __init__(self) -> None:
        self.silent = 0
        """Seconds since the last beat, as the thread counted them."""
        self._late = 0.0
        """By how many seconds the last beat came late."""
        self._beaten = True
        self._worker: threading.Thread | None = None

    @property
    def lag(self) -> float:
        """Return for how many seconds the event loop has not run, or how late the last beat was."""
        return max(float(self.silent), self._late)

    def start(self, worker: threading.Thread | None) -> None:
        """Start to beat and to count. Call it on the event loop, once.

        Args:
            worker: The thread that runs prompts; None if it is not known, then it is not judged.
        """
        self._worker = worker
        loop = asyncio.get_running_loop()
        self._wait(loop)
        threading.Thread(target=self._run, args=(loop,), name="preload-pulse", daemon=True).start()

    def beat(self, late: float = 0.0) -> None:
        """Note that the event loop runs."""
        self._beaten, self._late, self.silent = True, max(0.0, late), 0

    def count(self) -> None:
        """Count one second, unless there was a beat in it."""
        self.silent = 0 if self._beaten else self.silent + 1
        self._beaten = False

    def unresponsive(self) -> Problem | None:
        """Return why no prompt can be served, or None."""
        if self._worker is not None and not self._worker.is_alive():
            return problem("prompt_worker_ended")
        if self.silent >= MAX_SILENT:
            return problem("event_loop_blocked", found=self.silent, expected=MAX_SILENT)
        return None

    def fault(self) -> Problem | None:
        """Return why only a restart helps, or None."""
        found = self.unresponsive()
        blocked = found is not None and found.code == "event_loop_blocked"
        return None if blocked and self.silent < MAX_SILENT_ALIVE else found

    def _wait(self, loop: asyncio.AbstractEventLoop) -> None:
        # not a task: after a blockage a timer runs before any request that came meanwhile is answered
        loop.call_later(BEAT, self._on_time, loop, loop.time() + BEAT)

    def _on_time(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        self.beat(loop.time() - due)
        self._wait(loop)

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        while not loop.is_closed():
            time.sleep(COUNT)
            self.count()
