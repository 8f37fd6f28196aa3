"""Memory that loading is about to need: written to once while Python still imports torch, then given back.

On a virtual machine the first write to a page is many times more expensive than later ones, because the
hypervisor has yet to find memory for it. Without this, most of a first load is spent so
(docs/performance.md). With huge pages, 1/512 as many first writes are needed, here and in torch.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import sys
import threading
import time

from comfy_preload.core.log import log
from comfy_preload.core.text import gigabytes

STEP = 32 << 20
NICE = 10
"""Imports, which the start waits for, come first where cores are few."""
WORKING_MEMORY = 512 << 20
"""Bytes that a first prompt needs beside the models, at most."""
HOLD = 120.0
"""Seconds after which the memory is given back even if nobody came to load."""


class Pretouch:
    """One region of anonymous memory, filled by a daemon thread and held until it is released."""

    def __init__(self, size: int, spare: int = 0) -> None:
        """In bytes. `size`: what loading will need. `spare`: what the first prompt will need beside.

        Linux only: elsewhere it does nothing.
        """
        self._size, self._spare = (size, spare) if sys.platform == "linux" else (0, 0)
        self._touched = 0
        self._full = threading.Event()
        self._release = threading.Event()
        self._gone = threading.Event()

    @property
    def touched(self) -> int:
        """Bytes written to so far."""
        return self._touched

    def start(self, *, log_size: bool = True) -> None:
        """Begin. Returns at once. `log_size`: log how much was touched, once it is given back."""
        if self._size < STEP:
            self._full.set()
            self._gone.set()
        else:
            arguments = {"log_size": log_size}
            threading.Thread(target=self._run, kwargs=arguments, name="preload-pretouch", daemon=True).start()

    def release(self) -> None:
        """Give the memory back, at once before it is needed. Returns when it is free."""
        self._release.set()
        self._gone.wait(5.0)

    def finish(self) -> None:
        """Wait until all of it was written to, then give it back."""
        self._full.wait(5.0)
        self.release()

    def renew(self) -> None:
        """Write to the spare memory and give it back, at once before the first prompt.

        Returns when it is free.

        Later than the rest, for hypervisors take back what has lain idle (Linux' free page reporting: after 2
        s).
        """
        began = time.monotonic()
        # nobody imports any more: a second processor is free
        halves = [Pretouch(self._spare // 2) for _ in range(2)]
        for half in halves:
            half.start(log_size=False)
        for half in halves:
            half.finish()
        if touched := sum(half.touched for half in halves):
            _log(touched, time.monotonic() - began)

    def _run(self, *, log_size: bool) -> None:
        began = time.monotonic()
        if hasattr(os, "setpriority"):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        try:
            with mmap.mmap(-1, self._size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as region:
                if hasattr(mmap, "MADV_HUGEPAGE"):
                    with contextlib.suppress(OSError):  # a kernel built without them
                        region.madvise(mmap.MADV_HUGEPAGE)
                start = ctypes.c_char.from_buffer(region)
                while self._touched + STEP <= self._size and not self._release.is_set():
                    ctypes.memset(
                        ctypes.addressof(start) + self._touched, 0, STEP
                    )  # ctypes lets go of the GIL
                    self._touched += STEP
                seconds = time.monotonic() - began
                self._full.set()
                self._release.wait(HOLD)
                del start  # a region that is still referred to cannot be closed
            if log_size:
                _log(self._touched, seconds)
        except OSError as error:  # no such amount of address space
            log.warning("memory is not pre-touched: %s", error.strerror)
        finally:
            self._full.set()
            self._gone.set()


def _log(touched: int, seconds: float) -> None:
    log.info("pre-touched %s of memory in %.2f s", gigabytes(touched), seconds)


def prefer_huge_pages() -> None:
    """Have torch ask the kernel for huge pages for every tensor in RAM of 2 MB or more.

    To be called before torch is imported.

    Torch's own switch (c10/core/impl/alloc_cpu.cpp, since 2.2; older ones do not look at it). Linux only;
    where transparent huge pages are off (`never`), nothing changes. If the variable is set already, whoever
    set it has decided.
    """
    if sys.platform == "linux":
        os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")


def sized_for(size: int, room: int, *, in_ram: bool) -> Pretouch:
    """Return a pre-touch for loading files of `size` bytes with `room` bytes to spare for them.

    `in_ram`: models are computed with in main memory (`--cpu`). Weights of fp16 then become fp32, twice as
    large, and a first prompt needs working memory: WORKING_MEMORY, or a quarter of small models.
    """
    if not in_ram:
        return Pretouch(min(size, room - size))
    return Pretouch(min(2 * size, room - size), min(WORKING_MEMORY, size // 4, room - 2 * size))
