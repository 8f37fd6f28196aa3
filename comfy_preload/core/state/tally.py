"""What happened in this process so far: counters and histograms.

Written from any thread, read by the metrics.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

READY_BUCKETS = (5.0, 10.0, 20.0, 40.0, 60.0, 120.0, 240.0, 480.0, 960.0, 1920.0)
PROMPT_BUCKETS = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 40.0, 60.0, 120.0, 300.0, 600.0, 1800.0)


@dataclass(frozen=True)
class Histogram:
    """Observations by size, as Prometheus counts them."""

    bounds: tuple[float, ...]
    """Upper bounds in seconds, ascending."""
    counts: tuple[int, ...]
    """How many fell into each bucket, not cumulative; one bucket more than bounds."""
    sum: float = 0.0

    @classmethod
    def empty(cls, bounds: tuple[float, ...]) -> Histogram:
        return cls(bounds, (0,) * (len(bounds) + 1))

    def observe(self, value: float) -> Histogram:
        """Return it with one more observation."""
        at = bisect_left(self.bounds, value)
        counts = (*self.counts[:at], self.counts[at] + 1, *self.counts[at + 1 :])
        return replace(self, counts=counts, sum=self.sum + value)

    def cumulative(self) -> list[tuple[str, float]]:
        """Return the buckets as `le` and count; the last is +Inf: all observations."""
        total, rows = 0, list[tuple[str, float]]()
        for bound, count in zip((*map(str, self.bounds), "+Inf"), self.counts, strict=True):
            total += count
            rows.append((bound, float(total)))
        return rows


@dataclass(frozen=True)
class Counted:
    """All of it at one moment."""

    commands: Mapping[tuple[str, str], int] = field(default_factory=dict[tuple[str, str], int])
    """By command and result."""
    prompts_refused: int = 0
    """Prompts answered with 503 while draining."""
    prompts_lost: int = 0
    """Prompts that had not finished when the time of `drain` was over."""
    ready: Histogram = field(default_factory=lambda: Histogram.empty(READY_BUCKETS))
    """Seconds from the start of the process to ready: one observation."""
    prompt: Histogram = field(default_factory=lambda: Histogram.empty(PROMPT_BUCKETS))
    """Seconds that a prompt ran."""
    wait: Histogram = field(default_factory=lambda: Histogram.empty(PROMPT_BUCKETS))
    """Seconds that a prompt waited in the queue."""


class Tally:
    """Counts what happens. There is one for each process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now = Counted()
        self.restored: float | None = None
        """Unix time at which this process was restored, if it was: its start counts from there."""

    @property
    def now(self) -> Counted:
        """What was counted so far."""
        return self._now

    def command(self, command: str, result: str) -> None:
        """Count a command and what became of it."""
        with self._lock:
            commands = dict(self._now.commands)
            commands[command, result] = commands.get((command, result), 0) + 1
            self._now = replace(self._now, commands=commands)

    def refuse_prompt(self) -> None:
        """Count a prompt that was answered with 503."""
        with self._lock:
            self._now = replace(self._now, prompts_refused=self._now.prompts_refused + 1)

    def lose_prompts(self, number: int) -> None:
        """Count prompts that did not finish in time."""
        with self._lock:
            self._now = replace(self._now, prompts_lost=self._now.prompts_lost + number)

    def become_ready(self, seconds: float) -> None:
        """Count the start of this process. Only the first call counts."""
        with self._lock:
            if not any(self._now.ready.counts):
                self._now = replace(self._now, ready=self._now.ready.observe(seconds))

    def finish_prompt(self, ran: float, waited: float | None) -> None:
        """Count a prompt. `waited` is None where ComfyUI did not note when it came."""
        with self._lock:
            wait = self._now.wait if waited is None else self._now.wait.observe(waited)
            self._now = replace(self._now, prompt=self._now.prompt.observe(ran), wait=wait)
