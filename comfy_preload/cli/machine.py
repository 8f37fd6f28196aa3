"""How much memory this machine has: RAM, the limit of the container, VRAM.

Each is None where it cannot be found out.
"""

from __future__ import annotations

import functools
import mmap
import shutil
import subprocess
import time
from dataclasses import dataclass

import psutil

from comfy_preload.core.machine import memory

_SMI = ("--query-gpu=memory.total,memory.free", "--format=csv,noheader,nounits")


@dataclass(frozen=True)
class Machine:
    """Bytes of each kind of memory, now."""

    ram: int
    available: int
    """Free for a new process, the container's limit included."""
    cgroup: int | None
    """The least limit of the container or unit that this runs in."""
    vram: int | None
    vram_free: int | None


def look() -> Machine:
    """Ask the system."""
    gpus = _gpus()
    return Machine(
        ram=psutil.virtual_memory().total,
        available=memory.available(),
        cgroup=memory.cgroup_limit(),
        vram=gpus[0][0] if gpus else None,
        vram_free=gpus[0][1] if gpus else None,
    )


def free_vram() -> int:
    """Of the first GPU, which ComfyUI uses by default; 0 where it cannot be found out."""
    gpus = _gpus()
    return gpus[0][1] if gpus else 0


def copy_rate(size: int = 256 << 20) -> float:
    """Bytes a second into memory that nobody had yet, one thread.

    What building a model does most of the time.
    """
    source = memoryview(bytes(16 << 20))
    with mmap.mmap(-1, size) as target:
        began = time.perf_counter()
        for offset in range(0, size, len(source)):
            target[offset : offset + len(source)] = source
        return size / (time.perf_counter() - began)


@functools.cache
def _gpus() -> list[tuple[int, int]]:
    """(total, free) bytes of each NVIDIA GPU, as nvidia-smi says; nothing without it."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    try:
        done = subprocess.run([program, *_SMI], check=True, capture_output=True, text=True, timeout=10)  # noqa: S603 — from PATH
        rows = [
            [int(cell) << 20 for cell in line.split(",")] for line in done.stdout.splitlines() if line.strip()
        ]
        return [(total, free) for total, free in rows]
    except (OSError, ValueError, subprocess.SubprocessError):
        return []
