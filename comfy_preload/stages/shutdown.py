"""End the process: SIGTERM, and the exit status of `on_error: exit`. Runs on the event loop."""

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
from comfy_preload.core.state.tally import Tally

EXIT_CODE = 70
"""Exit status of the process with `on_error: exit` (EX_SOFTWARE in sysexits.h)."""
TERMINATION_LOG = Path("/dev/termination-log")
"""The file from which Kubernetes reads the reason (terminationMessagePath)."""
LINGER = 3.0
"""Seconds between the end of the last prompt and the exit, for clients to fetch the result."""
IDLE_LINGER = 1.0
"""The same if nothing ran: for requests that are on their way, which get an answer, be it 503."""


def exit_with(reason: str, *, busy: bool) -> None:
    """Exit with EXIT_CODE and log the reason last. SystemExit passes through ComfyUI's loop.

    `busy`: the prompt worker runs something. Then exit at once: a thread inside torch does not survive
    Python's end, and the exit status would be that of a crash.
    """
    _write_termination_message(reason)
    log.critical("on_error: exit; exiting with status %d: %s", EXIT_CODE, reason)
    if busy:
        logging.shutdown()
        os._exit(EXIT_CODE)
    raise SystemExit(EXIT_CODE)


def _write_termination_message(reason: str) -> None:
    """Write the reason where Kubernetes reads it, if there is such a file."""
    if TERMINATION_LOG.exists():
        with contextlib.suppress(OSError):
            TERMINATION_LOG.write_text(reason[:4096], encoding="utf-8")


class Drain:
    """Handle SIGTERM: report not ready at once, and exit when running and queued prompts have finished.

    ComfyUI installs no handler, so it would end in the middle of a prompt. Ctrl-C does not change.
    """

    def __init__(self, host: Host, readiness: Readiness, tally: Tally, seconds: float) -> None:
        self.seconds = seconds
        self._tally = tally
        self._host = host
        self._readiness = readiness
        self._before: Any = signal.SIG_DFL
        self._task: asyncio.Task[None] | None = None

    def install(self) -> None:
        """Install the handler. Only the main thread can; on another thread nothing happens."""
        if threading.current_thread() is threading.main_thread():
            loop = asyncio.get_running_loop()
            self._before = signal.getsignal(signal.SIGTERM)
            signal.signal(signal.SIGTERM, lambda *_: loop.call_soon_threadsafe(self._on_sigterm))

    def _on_sigterm(self) -> None:
        if self._task is not None:
            log.warning("second SIGTERM: exiting now")
            self._end(now=True)
            return
        self._readiness.drain()
        self._task = asyncio.create_task(self._drain())

    async def _drain(self) -> None:
        deadline = time.monotonic() + self.seconds
        prompts = self._host.queue_remaining()
        log.info(
            "SIGTERM: draining, new prompts are refused; %d prompts have up to %g s to finish",
            prompts,
            self.seconds,
        )
        idle_since = time.monotonic() - (0 if prompts else LINGER - IDLE_LINGER)
        while time.monotonic() < deadline:
            if self._host.queue_remaining():
                idle_since = time.monotonic()
            elif time.monotonic() - idle_since > LINGER:
                break
            await asyncio.sleep(0.1)
        self._report(self._host.unfinished())
        self._end(now=self._host.is_busy())

    def _report(self, left: tuple[str, ...]) -> None:
        """Name the prompts that did not finish: in the log, in the termination message, in the metrics."""
        if not left:
            log.info("drained: 0 prompts are unfinished")
            return
        self._tally.lose_prompts(len(left))
        text = f"drained: {len(left)} prompts are unfinished after {self.seconds:g} s: {', '.join(left)}"
        log.warning("%s", text)
        _write_termination_message(text)

    def _end(self, *, now: bool) -> None:
        """Exit through ComfyUI's shutdown if idle, else at once.

        Python's shutdown crashes torch's threads.
        """
        if callable(self._before):
            signal.signal(signal.SIGTERM, self._before)
            os.kill(os.getpid(), signal.SIGTERM)
        elif now:
            logging.shutdown()
            os._exit(0)
        else:
            raise KeyboardInterrupt
