"""Weights in pages of 32 MB that come to the device when asked for, and leave when others need room."""

from __future__ import annotations

import ctypes
import mmap
import threading
import weakref
from typing import Any

import torch_npu

PAGE = 32 << 20
NORESERVE = 0x4000
"""MAP_NORESERVE, which Python has no name for."""
_lock = threading.RLock()
_bars: list[weakref.ref[Any]] = []
"""Those whose pages are taken first come first."""


class ModelVBAR:
    """A range of addresses for one model's weights, of which some pages are on the device."""

    def __init__(self, size: int, device: Any) -> None:
        self.max_size = max(PAGE, (int(size) + PAGE - 1) // PAGE * PAGE)
        flags = mmap.MAP_SHARED | mmap.MAP_ANONYMOUS | NORESERVE
        self._area = mmap.mmap(-1, self.max_size, flags)
        self.base_addr = ctypes.addressof(ctypes.c_char.from_buffer(self._area))
        self.device = device
        self.offset = 0
        self.generation = 0
        self.pages: dict[int, tuple[int, bool]] = {}
        """Those on the device: (generation, pinned).

        Pinned is a flag: ComfyUI faults more often than it unpins.
        """
        self._ref: weakref.ref[Any] = weakref.ref(self)
        with _lock:
            _bars.append(self._ref)

    def __del__(self) -> None:
        with _lock:
            for page in list(self.pages):
                self._drop(page)
            if self._ref in _bars:
                _bars.remove(self._ref)

    def prioritize(self, _: Any = None) -> None:
        with _lock:
            _bars.remove(self._ref)
            _bars.append(self._ref)

    def deprioritize(self) -> None:
        with _lock:
            _bars.remove(self._ref)
            _bars.insert(0, self._ref)

    def alloc(self, num_bytes: int) -> tuple[ModelVBAR, int, int]:
        self.offset = (self.offset + 511) & ~511
        if self.offset + num_bytes > self.max_size:
            raise MemoryError("VBAR OOM")
        at = self.base_addr + self.offset
        self.offset += num_bytes
        return self, at, num_bytes

    def fault(self, at: int, size: int) -> Any:
        """Bring a weight's pages to the device and pin them.

        Returns their generations, or None if there is no room.
        """
        with _lock:
            span = self._span(at, size)
            for page in span:
                while page not in self.pages:
                    refused = torch_npu.lib.simdev_reserve(ctypes.c_int64(PAGE))
                    if refused == 2:
                        raise RuntimeError("Fault failed: 2")
                    if not refused:
                        self.generation += 1
                        self.pages[page] = (self.generation, False)
                    elif not self._make_room(span[-1]):
                        return None
            for page in span:
                self.pages[page] = (self.pages[page][0], True)
            return (ctypes.c_uint32 * (size // PAGE + 2))(*(self.pages[page][0] for page in span))

    def unpin(self, at: int, size: int) -> None:
        with _lock:
            for page in self._span(at, size):
                if page in self.pages:
                    self.pages[page] = (self.pages[page][0], False)

    def loaded_size(self) -> int:
        return len(self.pages) * PAGE

    def free_memory(self, size_bytes: int) -> int:
        with _lock:
            freed = 0
            for page in sorted(self.pages, reverse=True):
                if freed >= size_bytes:
                    break
                if not self.pages[page][1]:
                    self._drop(page)
                    freed += PAGE
            return freed

    def set_watermark_limit(self, size_bytes: int) -> None: ...

    def set_watermark(self, size_bytes: int) -> None: ...

    def get_nr_pages(self) -> int:
        return self.max_size // PAGE

    def get_watermark(self) -> int:
        return self.get_nr_pages()

    def get_residency(self) -> list[int]:
        held = self.pages
        return [0 if p not in held else 3 if held[p][1] else 1 for p in range(self.get_nr_pages())]

    def _span(self, at: int, size: int) -> range:
        first = (at - self.base_addr) // PAGE
        return range(first, (at - self.base_addr + size - 1) // PAGE + 1)

    def _drop(self, page: int) -> None:
        self._area.madvise(mmap.MADV_REMOVE, page * PAGE, PAGE)
        del self.pages[page]
        torch_npu.lib.simdev_release(ctypes.c_int64(PAGE))

    def _make_room(self, above: int) -> bool:
        """Take one page that is not pinned: of the others in their order, then of our own, from the end."""
        for bar in _live():
            for page in sorted(bar.pages, reverse=True):
                if bar is self and page <= above:
                    break
                if not bar.pages[page][1]:
                    bar._drop(page)
                    return True
            if bar is self:
                return False
        return False


def _live() -> list[ModelVBAR]:
    return [bar for ref in _bars if (bar := ref())]


def vbar_fault(alloc: tuple[ModelVBAR, int, int]) -> Any:
    return alloc[0].fault(alloc[1], alloc[2])


def vbar_unpin(alloc: tuple[ModelVBAR, int, int] | None) -> None:
    if alloc is not None:
        alloc[0].unpin(alloc[1], alloc[2])


def vbar_signature_compare(one: Any, other: Any) -> bool:
    return one is not None and other is not None and memoryview(one) == memoryview(other)


def vbars_reset_watermark_limits() -> None: ...


def vbars_analyze(_device: Any = None) -> int:
    """Bytes on the device, of all models."""
    return sum(bar.loaded_size() for bar in _live())
