"""The stages of a start, and the seconds that each of them has taken: one table with one writer, `Startup`.

At each moment there is one stage. So the seconds add up to the time since the process began, but for a hold.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum


class StartStage(str, Enum):
    """What a start does, in the order in which it first does it."""

    STARTING = "starting"
    """From the begin of the process until ComfyUI runs the plugin's `prestartup_script.py`."""
    IMPORTING = "importing"
    """Until the preload begins: ComfyUI imports torch and all custom nodes."""
    READING = "reading"
    """Loading waits for the prefetch of a file."""
    LOADING = "loading"
    """Loader nodes run; also the plan and the preflight."""
    PUSHING = "pushing"
    """Weights go to the device."""
    WARMING = "warming"
    """Warm-ups run."""


@dataclass(frozen=True)
class Stages:
    """The table at one moment."""

    stage: StartStage | None = StartStage.STARTING
    """None when the start is over."""
    seconds: Mapping[StartStage, float] = field(default_factory=lambda: dict.fromkeys(StartStage, 0.0))


class Startup:
    """The only writer of the table. Readers in other threads need no lock: it is replaced whole."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, age: float = 0.0) -> None:
        """Begin in `StartStage.STARTING`.

        Args:
            clock: Returns seconds; a step back of it counts as no time.
            age: Seconds for which the process has been running already.
        """
        self._clock = clock
        self._now = (Stages(), clock() - max(0.0, age))
        """The table when the current stage began, and when that was."""

    def enter(self, stage: StartStage) -> None:
        """Begin a stage, be it again, and end the one before it. Has no effect once the start is over."""
        self._move(stage)

    def end(self) -> None:
        """The start is over: no stage takes longer from now on."""
        self._move(None)

    def leave_out(self, seconds: float) -> None:
        """Do not count these seconds, which have just passed: the process was held, or frozen."""
        table, since = self._now
        self._now = (table, since + seconds)

    def read(self) -> Stages:
        """Return the table, with the seconds of the current stage so far."""
        table, since = self._now
        return table if table.stage is None else self._after(table, self._clock() - since, table.stage)

    def _move(self, to: StartStage | None) -> None:
        table, since = self._now
        if table.stage is not None:
            now = self._clock()
            self._now = (self._after(table, now - since, to), now)

    def _after(self, table: Stages, seconds: float, to: StartStage | None) -> Stages:
        if table.stage is None:
            return table
        spent = table.seconds[table.stage] + max(0.0, seconds)
        return Stages(to, {**table.seconds, table.stage: spent})
