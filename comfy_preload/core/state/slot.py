"""One planned call and its result: how far it is, its outputs, and what became of them."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from comfy_preload.core.errors import Problem
from comfy_preload.core.host import FileStamp, Outputs, Placement, all_there
from comfy_preload.core.machine import mounts
from comfy_preload.core.planning.call import LoaderCall
from comfy_preload.core.state.evidence import NOT_SERVED, Served


class Stage(str, Enum):
    """The progress of one call. Where its weights are is asked of ComfyUI instead."""

    PENDING = "pending"
    READING = "reading"
    LOADING = "loading"
    LOADED = "loaded"
    FAILED = "failed"
    RELEASED = "released"


@dataclass(frozen=True)
class Loaded:
    """The outputs of one call, and the stamps of the files it read."""

    outputs: Outputs
    stamp: FileStamp
    seconds: float
    changes: str = ""
    """What the class answered when ComfyUI asked whether the node must run again."""


@dataclass
class Slot:
    """One planned call and its result."""

    call: LoaderCall
    file_bytes: int = 0
    stage: Stage = Stage.PENDING
    loaded: Loaded | None = None
    problems: tuple[Problem, ...] = ()
    was_resident: bool = False
    """Whether its weights have been seen on their device: if they are elsewhere now, it is evicted."""
    seen_there: bool = False
    """Whether it was on its device at the last check."""
    taken: int = 0
    """Bytes that `sleep` took off its device, and that `wake` is to bring back."""
    hits: int = 0
    used: float = field(default_factory=time.monotonic)
    """When it was last used or loaded.

    If memory runs short, the least recently used model is released first.
    """
    evictions: int = 0
    warm_seconds: float | None = None
    """Duration of the warm-up that used it; None if no warm-up did."""
    warm_bytes: int = 0
    """Bytes that were on its device when that warm-up had ended."""
    read_seconds: float | None = None
    """How long loading waited for the prefetch of its files."""
    dropped: bool = False
    """It turned out that it cannot be preloaded, and is not part of the plan any more."""
    key: str = ""
    """What its calls are known by, where other nodes give it inputs; else the target has it."""
    served: Served = NOT_SERVED
    """The prompts that used it since it was loaded."""
    last_miss: str | None = None
    """Why the last call of its loader that should have found it did not."""
    opened: tuple[float, FileStamp] = (0.0, ())
    """When the loader last ran, and the stamps of its files before that."""

    @classmethod
    def of(cls, call: LoaderCall, file_bytes: int = 0) -> Slot:
        """Return a pending slot, or a failed one if the call has problems."""
        return cls(call, file_bytes, Stage.FAILED if call.problems else Stage.PENDING, problems=call.problems)

    def is_there(self, at: Placement) -> bool:
        """On its device: as much of it as after its warm-up, or all of it if there was none.

        A warm-up is the better measure, since with dynamic VRAM weights may be larger on the device than in
        their file, and those of parts that are never used stay away.
        """
        return all_there(at.bytes_on_device, self.warm_bytes or at.bytes)

    def see(self, at: Placement) -> None:
        """Take note of where it is now. What is there only while a prompt runs is never evicted."""
        self.seen_there = self.loaded is not None and at.stays and self.is_there(at)
        self.was_resident |= self.seen_there

    def fail(self, *problems: Problem) -> None:
        self.problems = problems
        self.stage = Stage.FAILED

    def release(self) -> None:
        """Drop the outputs. The next call of the loader loads again."""
        self.stage = Stage.RELEASED  # first: readers use the stage once `loaded` is None
        self.loaded = self.warm_seconds = None
        self.warm_bytes = self.taken = 0
        self.was_resident = self.seen_there = False


def heals(call: LoaderCall) -> bool:
    """Return whether what a prompt loads with this call is kept, though the preload could not load it.

    Not where memory is too small for the plan: the prompt's model has to be free to go.
    """
    return call.target is not None and not any(wrong.code == "too_big" for wrong in call.problems)


def file_stamp(paths: Iterable[Path]) -> FileStamp | None:
    """Return (mtime_ns, size, inode) of each file, or None if one cannot be read. Reads no content.

    The inode is 0 where the file system may change it while the file stays the same.
    """
    try:
        stats = [path.stat() for path in paths]
    except OSError:
        return None
    stable = {device: mounts.keeps_inodes(device) for device in {s.st_dev for s in stats}}
    return tuple((s.st_mtime_ns, s.st_size, s.st_ino if stable[s.st_dev] else 0) for s in stats)
