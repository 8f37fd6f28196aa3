"""The identity of a model's content.

Cheap to compute, equal for all copies of a file, whatever their names and dates.

A hash of the size, the header and 64 bytes from the middle of every tensor. Training changes nearly every
number of a tensor that it touches, so two fine-tunes of one model differ even where only one layer was
trained; reading it all would take as long as loading. It distinguishes copies, not forgeries.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import BinaryIO

from comfy_preload.core.host import FileStamp
from comfy_preload.core.planning.safetensors import read_raw
from comfy_preload.core.state.slot import Slot, file_stamp

VERSION = "c1"
"""Of this method: identities made by different methods are never equal."""
SAMPLE = 64
MAX_SAMPLES = 4096
MAX_HEADER = 16 << 20
EDGE = 1 << 20
"""Bytes from the beginning of a file that is not safetensors."""


def content(paths: Sequence[Path]) -> str:
    """Return the identity of one model of one or several files, in this order.

    Raises OSError. Blocks as the storage does.
    """
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
    """Return the bytes that describe the file, and the offsets to take samples from."""
    if raw := read_raw(stream, size, MAX_HEADER):
        try:
            middles = sorted(raw.data_start + (begin + end) // 2 for begin, end in raw.offsets())
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
            middles = []
        if middles and middles[0] >= 0 and middles[-1] <= size:
            step = max(1, -(-len(middles) // MAX_SAMPLES))
            return raw.text, middles[::step]
    stream.seek(0)
    return stream.read(EDGE), range(0, size, max(SAMPLE, size // 1024))


@dataclass(frozen=True)
class _Asked:
    paths: tuple[Path, ...]
    stamp: FileStamp
    """Of the files that were loaded: they may have been replaced since."""


class Contents:
    """Identities, computed in a thread of their own: storage that hangs must not stop the heartbeat."""

    def __init__(self) -> None:
        self._known: dict[_Asked, str | None] = {}
        self._asked: set[_Asked] = set()
        self._todo: SimpleQueue[_Asked] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def of(self, slots: Iterable[Slot]) -> dict[str, str | None]:
        """Return the identities by name of model; None while unknown.

        Never blocks. To be called by one thread only.
        """
        wanted: dict[str, _Asked] = {}
        for slot in slots:
            loaded = slot.loaded
            if loaded is not None and slot.call.files:
                wanted[slot.call.name] = _Asked(tuple(file.path for file in slot.call.files), loaded.stamp)
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
    """Return the content's identity if the files are still those that were loaded."""
    try:
        found = content(one.paths)
    except OSError:
        return None
    return found if file_stamp(one.paths) == one.stamp else None
