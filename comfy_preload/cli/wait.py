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

PATIENCE = 10.0
"""Seconds that one answer may take."""
PASSES = "timeout"
"""The one failure that goes away by itself: loading takes longer than the settings allow."""


@dataclass(frozen=True)
class Reading:
    """One look at /ready. Without an answer the status is `unreachable`, and `body` is empty."""

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
        return self.status == "failed" and not (codes and all(code == PASSES for code in codes))

    def failing(self) -> dict[str, dict[str, Any]]:
        """What is wrong, by model."""
        found = self.body.get("failing")
        return {k: v for k, v in found.items() if isinstance(v, dict)} if isinstance(found, dict) else {}


def run(options: argparse.Namespace) -> int:
    """0 as soon as it is ready, 1 if that did not come about."""
    server = address(options.url)
    began = time.monotonic()
    end = began + options.timeout
    while True:
        left = end - time.monotonic()
        reading = read(server, max(0.1, min(PATIENCE, left)))
        if reading.ready or reading.hopeless or options.once:
            break
        left = end - time.monotonic()
        if left <= 0:
            break
        if not options.quiet and not options.json:
            progress(_line(reading, time.monotonic() - began))
        time.sleep(min(left, max(options.interval, reading.retry_after or 0)))
    _tell(reading, time.monotonic() - began, options)
    return 0 if reading.ready else 1


def read(server: SplitResult, timeout: float) -> Reading:
    """Ask once. No connection is an answer too: while models load at start-up, the port is closed."""
    path = "" if "/ready" in server.path else "/ready"
    try:
        answer = get(server, path, timeout)
    except (OSError, http.client.HTTPException):
        return Reading(None, "unreachable", {})
    body = answer.json()
    known = body if isinstance(body, dict) else {}
    status = str(known.get("status") or f"HTTP {answer.status}")
    return Reading(answer.status, status, known, _seconds(answer.headers.get("retry-after")))


def _seconds(text: str | None) -> float | None:
    """Retry-After in seconds; its other form, a date, is left to `--interval`."""
    return float(text) if text and text.isascii() and text.isdigit() else None


def _line(reading: Reading, seconds: float) -> str:
    made = reading.body.get("progress")
    known = made if isinstance(made, dict) else {}
    words = [f"{reading.status}, {seconds:.0f} s"]
    if isinstance(fraction := known.get("fraction"), int | float):
        words.append(f"{fraction:.0%}")
    if isinstance(eta := known.get("eta"), int | float):
        words.append(f"about {eta:.0f} s to go")
    return ", ".join(words)


def _tell(reading: Reading, seconds: float, options: argparse.Namespace) -> None:
    if options.json:
        told = {"ready": reading.ready, "status": reading.status, "http": reading.http}
        say_json({**told, "seconds": round(seconds, 3), "failing": reading.failing()})
    elif not options.quiet:
        progress("")
        if reading.ready:
            say(f"{reading.status} after {seconds:.1f} s")
            return
        remark(f"not ready after {seconds:.1f} s: {reading.status}")
        if reading.http == 404:
            remark("the server has no such route or model: is the plugin installed there?")
        for name, error in reading.failing().items():
            remark(f"{name}: {error.get('message')}. {error.get('hint')} [{error.get('code')}]")
