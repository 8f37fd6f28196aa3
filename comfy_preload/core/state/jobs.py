"""Commands and their jobs. A command runs as one job on the prompt queue."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol

from comfy_preload.core.errors import Problem

MAX_FINISHED = 100
"""At most this many finished jobs are kept."""


class Command(str, Enum):
    """The commands of `POST /preload/{command}`."""

    RELOAD = "reload"
    RELEASE = "release"
    SLEEP = "sleep"
    WAKE = "wake"

    @property
    def takes_model(self) -> bool:
        """Return whether the command can be for one model."""
        return self in (Command.RELOAD, Command.RELEASE)


class JobState(str, Enum):
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


JOB_MOVES: dict[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset({JobState.RUNNING, JobState.FAILED}),
    JobState.RUNNING: frozenset({JobState.DONE, JobState.FAILED}),
    JobState.DONE: frozenset(),
    JobState.FAILED: frozenset(),
}


@dataclass
class Job:
    """One run of a command.

    Created on the event loop; then changed only by `move` and the thread that runs it.
    """

    command: Command
    model: str | None = None
    """The model that it is for; None for all."""
    reason: str = "command"
    """`command`; `memory`: released because memory ran short; `restore`: the process was restored."""
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    state: JobState = JobState.QUEUED
    created: float = field(default_factory=time.time)
    started: float | None = None
    ended: float | None = None
    loaded: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    released: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()

    @property
    def is_over(self) -> bool:
        return not JOB_MOVES[self.state]

    def move(self, to: JobState) -> None:
        """Change the state. Raise ValueError for a move that JOB_MOVES does not list."""
        if to not in JOB_MOVES[self.state]:
            raise ValueError(f"{self.state.value} -> {to.value} is not a legal move")
        if to is JobState.RUNNING:
            self.started = time.time()
        else:
            self.ended = time.time()
        self.state = to


class Door(Protocol):
    """Accepts commands: `Preloader`, or `Plugin` while there is nothing to preload."""

    def order(self, command: Command, model: str | None = None) -> Job:
        """Queue the command, or return the job of the same command if it is queued or running.

        Call it on the event loop. Raises PreloadError: command_too_early, model_unknown.
        """
        ...

    def entries(self, prompt: Mapping[str, Any], tag: str | None = None) -> tuple[str, str]:
        """Return entries for the loaders of a graph that the settings file lacks, and the file's tag.

        With a tag, also add them to the file if it still has that tag. Can be called on any thread.
        Raises PreloadError: workflow_…, yaml_…, settings_changed, settings_not_written.
        """
        ...


class Jobs:
    """Running and queued jobs and the last finished ones, oldest first. Add jobs on the event loop only."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}

    def add(self, job: Job) -> None:
        self._jobs = {**self._without_oldest(), job.id: job}

    def get(self, job_id: str) -> Job | None:
        return self._jobs.get(job_id)

    def all(self) -> tuple[Job, ...]:
        return tuple(self._jobs.values())

    def pending(self, command: Command, model: str | None) -> Job | None:
        """Return the unfinished job of the same command for the same model, or None."""
        return next(
            (j for j in self.all() if not j.is_over and (j.command, j.model) == (command, model)), None
        )

    def _without_oldest(self) -> dict[str, Job]:
        over: Iterable[str] = [job.id for job in self.all() if job.is_over]
        dropped = set(list(over)[: max(0, len(self._jobs) - MAX_FINISHED + 1)])
        return {i: job for i, job in self._jobs.items() if i not in dropped}
