"""How the process ends: SIGTERM, and the exit status under `on_error: exit`. Runs on the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

from comfy_preload.core.host import Host
from comfy_preload.core.log import log
from comfy_preload.core.state.readiness import Readiness

EXIT_CODE = 70
"""Exit status of the process under `on_error: exit` (EX_SOFTWARE of sysexits.h)."""
TERMINATION_LOG = Path("/dev/termination-log")
"""Where Kubernetes looks for the reason (terminationMessagePath)."""
LINGER = 3.0
"""Seconds between the last prompt's end and ours, for clients to fetch the result."""
IDLE_LINGER = 1.0
"""The same if nothing ran: for prompts that are on their way, where no preStop hook waits for the load balancer."""


def exit_with(reason: str) -> None:
    """End the process with EXIT_CODE and the reason as the last line: SystemExit passes through ComfyUI's loop."""
    if TERMINATION_LOG.exists():
        with contextlib.suppress(OSError):
            TERMINATION_LOG.write_text(reason[:4096], encoding="utf-8")
    log.critical("on_error: exit, ending with status %d: %s", EXIT_CODE, reason)
    raise SystemExit(EXIT_CODE)


class Drain:
    """What SIGTERM does: not ready at once, then the end, once running and queued prompts have finished.

    ComfyUI installs no handler for it, so it would die in the middle of a prompt. Ctrl-C stays as it is.
    """

    def __init__(self, host: Host, readiness: Readiness, seconds: float) -> None:
        self.seconds = seconds
        self._host = host
        self._readiness = readiness
        self._before: Any = signal.SIG_DFL
        self._task: asyncio.Task[None] | None = None

    def install(self) -> None:
        """On the event loop, in the main thread; elsewhere signals cannot be had, and nothing is done."""
        if threading.current_thread() is threading.main_thread():
            loop = asyncio.get_running_loop()
            self._before = signal.getsignal(signal.SIGTERM)
            signal.signal(signal.SIGTERM, lambda *_: loop.call_soon_threadsafe(self._on_sigterm))

    def _on_sigterm(self) -> None:
        if self._task is not None:
            log.warning("SIGTERM again: ending now")
            self._end(now=True)
            return
        self._readiness.drain()
        self._task = asyncio.create_task(self._drain())

    async def _drain(self) -> None:
        deadline = time.monotonic() + self.seconds
        prompts = self._host.queue_remaining()
        log.info("SIGTERM: not ready any more; %d prompts have up to %g s to finish", prompts, self.seconds)
        idle_since = time.monotonic() - (0 if prompts else LINGER - IDLE_LINGER)
        while time.monotonic() < deadline:
            if self._host.queue_remaining():
                idle_since = time.monotonic()
            elif time.monotonic() - idle_since > LINGER:
                break
            await asyncio.sleep(0.1)
        left = self._host.queue_remaining()
        log.log(logging.WARNING if left else logging.INFO, "drained: %d prompts left unfinished", left)
        self._end(now=self._host.is_busy())

    def _end(self, *, now: bool) -> None:
        """Through ComfyUI's own end if nothing runs; otherwise at once: a thread inside torch does not survive Python's end."""
        if callable(self._before):
            signal.signal(signal.SIGTERM, self._before)
            os.kill(os.getpid(), signal.SIGTERM)
        elif now:
            logging.shutdown()
            os._exit(0)
        else:
            raise KeyboardInterrupt
