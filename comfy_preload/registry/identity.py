"""Which content a model has: cheap, and the same on every replica that has a copy of the file, whatever its name and date.

A hash of the size, the header and 64 bytes from the middle of every tensor. Training changes nearly every number of a tensor
that it touches, so two fine-tunes of one model differ even where only one layer was trained; reading it all would take as long
as loading. It tells copies apart, not forgeries.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import BinaryIO

from comfy_preload.core.host import Identity
from comfy_preload.core.state.residency import Slot

VERSION = "c1"
"""Of this recipe: identities of different recipes are never equal."""
SAMPLE = 64
MOST_SAMPLES = 4096
MOST_HEADER = 16 << 20
EDGE = 1 << 20
"""Of a file that is not safetensors so much is taken from its beginning."""


def content(paths: Sequence[Path]) -> str:
    """The identity of one model, of one or several files in this order. Raises OSError. Blocks as the storage does."""
    digest = hashlib.blake2b(digest_size=16)
    for path in paths:
        with path.open("rb", buffering=0) as stream:
            size = os.fstat(stream.fileno()).st_size
            head, places = _head(stream, size)
            digest.update(size.to_bytes(8, "little") + hashlib.blake2b(head).digest())
            for place in places:
                stream.seek(place)
                digest.update(stream.read(SAMPLE))
    return f"{VERSION}-{digest.hexdigest()}"


def _head(stream: BinaryIO, size: int) -> tuple[bytes, Sequence[int]]:
    """What describes the file, and where to take samples."""
    length = int.from_bytes(stream.read(8), "little")
    if 2 <= length <= min(MOST_HEADER, size - 8):
        head = stream.read(length)
        try:
            table = json.loads(head)
            offsets = [value["data_offsets"] for key, value in table.items() if key != "__metadata__"]
            middles = sorted(8 + length + (int(begin) + int(end)) // 2 for begin, end in offsets)
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
            middles = []
        if middles and middles[0] >= 0 and middles[-1] <= size:
            step = max(1, -(-len(middles) // MOST_SAMPLES))
            return head, middles[::step]
    stream.seek(0)
    return stream.read(EDGE), range(0, size, max(SAMPLE, size // 1024))


@dataclass(frozen=True)
class _Asked:
    paths: tuple[Path, ...]
    identity: Identity
    """Of the files that were loaded: others may have taken their place since."""


class Contents:
    """Identities, found by a thread of its own: storage that hangs must not silence the heartbeat."""

    def __init__(self) -> None:
        self._known: dict[_Asked, str | None] = {}
        self._asked: set[_Asked] = set()
        self._todo: SimpleQueue[_Asked] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def of(self, slots: Iterable[Slot]) -> dict[str, str | None]:
        """By name; None while it is not known. Never blocks. For one thread only."""
        wanted: dict[str, _Asked] = {}
        for slot in slots:
            loaded = slot.loaded
            if loaded is not None and slot.call.files:
                wanted[slot.call.name] = _Asked(tuple(file.path for file in slot.call.files), loaded.identity)
        known = self._known
        if dropped := known.keys() - set(wanted.values()):
            self._asked -= dropped
            self._known = {one: found for one, found in known.items() if one not in dropped}
        for one in set(wanted.values()) - self._asked:
            self._asked.add(one)
            self._todo.put(one)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="preload-identity", daemon=True)
                self._thread.start()
        return {name: known.get(one) for name, one in wanted.items()}

    def _work(self) -> None:
        while True:
            one = self._todo.get()
            found = _still(one)
            self._known = {**self._known, one: found}


def _still(one: _Asked) -> str | None:
    """The identity, if the files are those that were loaded."""
    try:
        found = content(one.paths)
        now = tuple((s.st_mtime_ns, s.st_size, s.st_ino) for s in (path.stat() for path in one.paths))
    except OSError:
        return None
    return found if now == one.identity else None
