"""What is loaded: one slot for each planned call. The only store; strong references live here.

Written only by the thread that runs prompts (ComfyUI's prompt worker, which also runs our jobs).
Every field is replaced whole, so readers in other threads need no lock. Two threads of someone
else's that call the same loader at once could both load; the later result is kept.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from comfy_preload.core.errors import Problem
from comfy_preload.core.host import Identity, LoaderSpec, ModelFile, Outputs
from comfy_preload.core.planning.plan import LoaderCall, call_key


class Stage(str, Enum):
    """How far the loading of one call got. Where its weights are is asked of ComfyUI instead."""

    PENDING = "pending"
    READING = "reading"
    LOADING = "loading"
    LOADED = "loaded"
    FAILED = "failed"
    RELEASED = "released"


@dataclass(frozen=True)
class Loaded:
    """What one call gave, and which files it came from."""

    outputs: Outputs
    identity: Identity
    seconds: float
    changes: str = ""
    """What the class answered when ComfyUI asked whether the node must run again."""


@dataclass
class Slot:
    """One planned call and what became of it."""

    call: LoaderCall
    file_bytes: int = 0
    stage: Stage = Stage.PENDING
    loaded: Loaded | None = None
    problems: tuple[Problem, ...] = ()
    was_resident: bool = False
    """True once its weights were seen on their device: now elsewhere means evicted."""
    seen_there: bool = False
    """True if it was on its device when last looked at."""
    hits: int = 0
    used: float = field(default_factory=time.monotonic)
    """When it was last asked for, or was loaded: the least recently used goes first when memory runs short."""
    evictions: int = 0
    warm_seconds: float | None = None
    """How long the warm-up that used it took; None while there was none."""
    read_seconds: float | None = None
    """How long loading waited for the prefetch of its files."""
    opened: tuple[float, Identity] = (0.0, ())
    """When the loader was last really run, and which files it was about to read."""

    @classmethod
    def of(cls, call: LoaderCall, file_bytes: int = 0) -> Slot:
        """Still to be loaded, or failed already if the call has problems."""
        return cls(call, file_bytes, Stage.FAILED if call.problems else Stage.PENDING, problems=call.problems)

    def fail(self, *problems: Problem) -> None:
        self.problems = problems
        self.stage = Stage.FAILED

    def release(self) -> None:
        """Let go of what was loaded. The next call of the loader loads it again."""
        self.stage = Stage.RELEASED  # first, for readers: without a model the stage is all there is
        self.loaded = self.warm_seconds = None
        self.was_resident = self.seen_there = False


@dataclass
class Residency:
    """The slots in the plan's order. It is the watcher that loader nodes are asked through."""

    repair: Callable[[Outputs], None]
    usable: Callable[[Outputs], str]
    slots: tuple[Slot, ...] = ()
    misses: Counter[str] = field(default_factory=Counter[str])
    """Calls of watched loaders that had to be run, but for the preload's own, by class name."""
    _by_key: dict[str, Slot] = field(default_factory=dict[str, Slot])

    def reset(self, slots: Iterable[Slot]) -> None:
        """Take on a new plan."""
        self.slots = tuple(slots)
        self.expect(())

    def expect(self, slots: Iterable[Slot]) -> None:
        """Let what the loaders of these slots return come to them, though they are not part of the plan yet."""
        both = (*self.slots, *slots)
        self._by_key = {s.call.target.key: s for s in both if s.call.target and not s.call.problems}

    def find(self, name: str) -> Slot | None:
        return next((slot for slot in self.slots if slot.call.name == name), None)

    # -- Watcher ------------------------------------------------------------------------------

    def recall(self, spec: LoaderSpec, arguments: Mapping[str, Any], changes: str) -> Outputs | None:
        slot = self._by_key.get(call_key(spec.identity, arguments))
        identity = identify(slot.call.files) if slot else None
        # a file that is gone was not replaced: what is in memory is still what was asked for
        if (
            slot
            and slot.loaded
            and identity in (slot.loaded.identity, None)
            and changes == slot.loaded.changes
        ):
            slot.hits += 1
            slot.used = time.monotonic()
            self.repair(slot.loaded.outputs)
            return slot.loaded.outputs
        if slot is None or slot.stage is not Stage.LOADING:
            self.misses[spec.name] += 1
        if slot:
            slot.opened = (time.perf_counter(), identity or ())
        return None

    def keep(self, spec: LoaderSpec, arguments: Mapping[str, Any], changes: str, outputs: Outputs) -> None:
        slot = self._by_key.get(call_key(spec.identity, arguments))
        if slot is None or self.usable(outputs):
            return
        began, identity = slot.opened
        slot.loaded = Loaded(outputs, identity, time.perf_counter() - began, changes)
        slot.was_resident = False
        slot.warm_seconds = None
        slot.used = time.monotonic()
        slot.problems = ()
        slot.stage = Stage.LOADED


def identify(files: Collection[ModelFile]) -> Identity | None:
    """(mtime_ns, size, inode) of each file, or None if one cannot be asked. Reads no content."""
    try:
        stats = [file.path.stat() for file in files]
    except OSError:
        return None
    return tuple((s.st_mtime_ns, s.st_size, s.st_ino) for s in stats)
