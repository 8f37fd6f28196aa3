"""Measure the lower bounds for any loader, disk and memory speed, in the same run as the other figures."""

from __future__ import annotations

import mmap
import os
import time
from pathlib import Path

from bench.scenario import Scenario
from comfy_preload.core.machine.prefetch import Prefetch

CHUNK = 16 << 20


def raw_read(scenario: Scenario) -> float | None:
    """Return the seconds to read the model files past the page cache (O_DIRECT), or None if that fails."""
    seconds = [_raw_read(file) for file in scenario.files]
    return None if None in seconds else sum(s for s in seconds if s is not None)


def _raw_read(file: Path) -> float | None:
    flag = getattr(os, "O_DIRECT", 0)
    if not flag:
        return None
    buffer = mmap.mmap(-1, CHUNK)  # O_DIRECT needs an aligned buffer
    try:
        handle = os.open(file, os.O_RDONLY | flag)
    except OSError:
        return None
    try:
        began = time.perf_counter()
        while os.readv(handle, [buffer]) == CHUNK:
            pass
        return time.perf_counter() - began
    finally:
        os.close(handle)
        buffer.close()


def prefetch(scenario: Scenario) -> float:
    """Return the seconds that the prefetch takes for uncached model files, alone.

    Afterwards they are cached.
    """
    scenario.evict()
    job = Prefetch(scenario.files, budget=scenario.bytes)
    job.start()
    return job.wait(scenario.files)


def cached_read(scenario: Scenario) -> float:
    """Return the seconds to read the model files through the page cache in its current state."""
    buffer = bytearray(CHUNK)
    began = time.perf_counter()
    for file in scenario.files:
        with file.open("rb", buffering=0) as stream:
            while stream.readinto(buffer):
                pass
    return time.perf_counter() - began


def memory_copy(size: int) -> float:
    """Return the seconds to copy this number of bytes into fresh memory with one thread."""
    source = memoryview(bytes(CHUNK))
    target = mmap.mmap(-1, size)
    view = memoryview(target)
    try:
        began = time.perf_counter()
        for offset in range(0, size - CHUNK + 1, CHUNK):
            view[offset : offset + CHUNK] = source
        return time.perf_counter() - began
    finally:
        view.release()
        target.close()
