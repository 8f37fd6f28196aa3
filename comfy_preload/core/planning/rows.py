"""What a plan has besides models: warm-ups with their profiles, and nodes whose model a prompt loads."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from comfy_preload.core.errors import Problem


class WarmUpState(str, Enum):
    PENDING = "pending"
    RUNNING = "running"
    WARM = "warm"
    FAILED = "failed"
    DEGRADED = "degraded"
    """Its first prompt was found to take too much longer than a steady one, or all of it was left out."""
    SKIPPED = "skipped"
    """It needs a user who is logged in, or its budget was used up: no failure."""


@dataclass(frozen=True)
class Profile:
    """One size of a warm-up."""

    shape: str
    """For reading: '1024x1024, batch 1'."""
    state: WarmUpState = WarmUpState.PENDING
    seconds: float | None = None
    """How long its warm-up ran."""
    first: float | None = None
    """How long the first run after all warm-ups took; None if it was not measured."""
    steady: float | None = None
    """How long the run after that one took."""

    @property
    def ratio(self) -> float | None:
        """Return first ÷ steady, or None. ComfyUI notes times in milliseconds."""
        if self.first is None or self.steady is None:
            return None
        return max(self.first, 0.001) / max(self.steady, 0.001)


@dataclass(frozen=True)
class WarmUp:
    """One warm-up and its result."""

    name: str
    required: bool = True
    state: WarmUpState = WarmUpState.PENDING
    seconds: float | None = None
    profiles: tuple[Profile, ...] = ()
    dtypes: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    """Names of the models that it used."""
    problems: tuple[Problem, ...] = ()
    notes: tuple[Problem, ...] = ()
    """What the settings ask for and what has no effect: no failure."""
    requested: bool = True
    """False for a workflow without a warm-up, which is here only because its file cannot be read."""

    @property
    def shapes(self) -> tuple[str, ...]:
        return tuple(profile.shape for profile in self.profiles)


@dataclass(frozen=True)
class NotPreloaded:
    """A node of a workflow that reads a model file, which only the first prompt or a warm-up loads."""

    workflow: str
    node: str
    loader: str
    problem: Problem
