"""`wait URL`: until /ready says 200. For scripts; with `--once` for a health check."""

from __future__ import annotations

import argparse
import http.client
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult

from comfy_preload.cli.client import address, get
from comfy_preload.cli.output import progress, remark, say, say_json
from comfy_preload.core.errors import Problem

ANSWER_TIMEOUT = 10.0
"""Seconds that one answer may take."""
TRANSIENT = "timeout"
"""The code of the one failure that disappears by itself: loading takes longer than the settings allow."""


@dataclass(frozen=True)
class ReadyAnswer:
    """One answer of /ready.

    If the server does not answer, the status is `unreachable` and `body` is empty.
    """

    http: int | None
    status: str
    body: dict[str, Any]
    retry_after: float | None = None

    @property
    def ready(self) -> bool:
        return self.http == 200

    @property
    def hopeless(self) -> bool:
        """The preload is over, and failed."""
        codes = [error.get("code") for error in self.failing().values()]
        return self.status == "failed" and not (codes and all(code == TRANSIENT for code in codes))

    def failing(self) -> dict[str, dict[str, Any]]:
        """What is wrong, by model."""
        found = self.body.get("failing")
        return {k: v for k, v in found.items() if isinstance(v, dict)} if isinstance(found, dict) else {}


def run(options: argparse.Namespace) -> int:
    """Return 0 as soon as it is ready, 1 if it did not become ready."""
    server = address(options.url)
    began = time.monotonic()
    end = began + options.timeout
    while True:
        left = end - time.monotonic()
        found = read(server, max(0.1, min(ANSWER_TIMEOUT, left)))
        if found.ready or found.hopeless or options.once:
            break
        left = end - time.monotonic()
        if left <= 0:
            break
        if not options.quiet and not options.json:
            progress(_line(found, time.monotonic() - began))
        time.sleep(min(left, max(options.interval, found.retry_after or 0)))
    _report(found, time.monotonic() - began, options)
    return 0 if found.ready else 1


def read(server: SplitResult, timeout: float) -> ReadyAnswer:
    """Ask once. No connection is an answer too: while models load at start-up, the port is closed."""
    path = "" if "/ready" in server.path else "/ready"
    try:
        answer = get(server, path, timeout)
    except (OSError, http.client.HTTPException):
        return ReadyAnswer(None, "unreachable", {})
    body = answer.json()
    known = body if isinstance(body, dict) else {}
    status = str(known.get("status") or f"HTTP {answer.status}")
    return ReadyAnswer(answer.status, status, known, _seconds(answer.headers.get("retry-after")))


def _seconds(text: str | None) -> float | None:
    """Retry-After in seconds; its other form, a date, is left to `--interval`."""
    return float(text) if text and text.isascii() and text.isdigit() else None


def _line(found: ReadyAnswer, seconds: float) -> str:
    made = found.body.get("progress")
    known = made if isinstance(made, dict) else {}
    words = [f"{found.status}, {seconds:.0f} s"]
    if isinstance(fraction := known.get("fraction"), int | float):
        words.append(f"{fraction:.0%}")
    if isinstance(eta := known.get("eta"), int | float):
        words.append(f"about {eta:.0f} s to go")
    return ", ".join(words)


def _report(found: ReadyAnswer, seconds: float, options: argparse.Namespace) -> None:
    if options.json:
        answer = {"ready": found.ready, "status": found.status, "http": found.http}
        say_json({**answer, "seconds": round(seconds, 3), "failing": found.failing()})
    elif not options.quiet:
        progress("")
        if found.ready:
            say(f"{found.status} after {seconds:.1f} s")
            return
        remark(f"not ready after {seconds:.1f} s: {found.status}")
        if found.http == 404:
            remark("the server has no such route or model: is the plugin installed there?")
        for name, error in found.failing().items():
            code, message, hint = (str(error.get(key)) for key in ("code", "message", "hint"))
            remark(f"{name}: {Problem(code, message, hint).text}")
