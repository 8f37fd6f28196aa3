"""Finds out which parts of a file are already in the page cache."""

from __future__ import annotations

import os
from pathlib import Path

CHUNK = 16 << 20
"""Bytes asked for at once: large enough for full sequential speed, small enough to stop soon."""
OPEN_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def uncached(path: Path, size: int) -> list[int]:
    """Return the offsets of the chunks that the page cache lacks, judged by four pages of each.

    RWF_NOWAIT (Linux 4.14) answers from the page cache or not at all; `mincore` would be simpler, but
    calls every page of a file cached that this process could not write to. Where neither kernel nor
    file system can say, every chunk is one to read.
    """
    offsets = range(0, size, CHUNK)
    if not hasattr(os, "RWF_NOWAIT"):
        return list(offsets)
    handle = os.open(path, OPEN_FLAGS)
    try:
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_RANDOM)  # no read-ahead: it would spoil the answer
        byte = bytearray(1)
        return [
            offset
            for offset in offsets
            if not all(_is_cached(handle, byte, at) for at in _pages(offset, size))
        ]
    finally:
        os.close(handle)


def _pages(offset: int, size: int) -> tuple[int, ...]:
    last = min(offset + CHUNK, size) - 1
    return (offset, offset + (last - offset) // 3, offset + (last - offset) * 2 // 3, last)


def _is_cached(handle: int, byte: bytearray, offset: int) -> bool:
    try:
        return os.preadv(handle, [byte], offset, os.RWF_NOWAIT) == 1
    except OSError:
        return False
