"""Owns what no loader can beat: the disk's raw speed and the memory's, measured in the same run as the rest."""

from __future__ import annotations

import mmap
import os
import time
from pathlib import Path

from bench.scenario import Scenario
from comfy_preload.core.machine.prefetch import Prefetch

CHUNK = 16 << 20


def raw_read(scenario: Scenario) -> float | None:
    """Seconds to read the model files sequentially past the page cache (O_DIRECT). None where that cannot be done."""
    seconds = [_raw_read(file) for file in scenario.files]
    return None if None in seconds else sum(s for s in seconds if s is not None)


def _raw_read(file: Path) -> float | None:
    flag = getattr(os, "O_DIRECT", 0)
    if not flag:
        return None
    buffer = mmap.mmap(-1, CHUNK)  # O_DIRECT wants an aligned buffer
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
    """Seconds that our own reading ahead takes for the model files, not cached, with nothing beside it. They are cached then."""
    scenario.evict()
    job = Prefetch(scenario.files, budget=scenario.bytes)
    job.start()
    return job.wait(scenario.files)


def cached_read(scenario: Scenario) -> float:
    """Seconds to read the model files through the page cache, with whatever of them is there."""
    buffer = bytearray(CHUNK)
    began = time.perf_counter()
    for file in scenario.files:
        with file.open("rb", buffering=0) as stream:
            while stream.readinto(buffer):
                pass
    return time.perf_counter() - began


def memory_copy(size: int) -> float:
    """Seconds to copy so many bytes into fresh memory, one thread."""
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
