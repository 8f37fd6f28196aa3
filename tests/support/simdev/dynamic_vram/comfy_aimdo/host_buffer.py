"""Host memory that grows and shrinks in place, and reading files into it or straight to the device."""

from __future__ import annotations

import ctypes
import mmap
import os
from typing import Any

import torch_npu

from comfy_aimdo.model_vbar import NORESERVE


class HostBuffer:
    def __init__(self, size: int, prewarm: int = 0, max_grow_size: int = 0, mark_cold: bool = True) -> None:
        self.size = 0
        self._most = max(int(size), int(max_grow_size), 4096)
        self._area: mmap.mmap | None = None
        self._at = 0
        if size:
            self.extend(size)

    def get_raw_address(self) -> int:
        if self._area is None:
            flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | NORESERVE
            self._area = mmap.mmap(-1, self._most, flags)
            self._at = ctypes.addressof(ctypes.c_char.from_buffer(self._area))
        return self._at

    def extend(self, size: int, **_: Any) -> int:
        if self.size + int(size) > self._most:
            raise RuntimeError("HostBuffer.extend failed")
        at = self.get_raw_address() + self.size
        self.size += int(size)
        return at

    def truncate(self, size: int, do_unregister: bool = True) -> None:
        size = int(size)
        if self._area is not None and size < self.size:
            if do_unregister:
                torch_npu.unregister_range(self._at + size, self.size - size)
            start = (size + 4095) & ~4095
            if start < self.size:
                self._area.madvise(mmap.MADV_DONTNEED, start, (self.size + 4095 & ~4095) - start)
        self.size = size

    def register(self, offset: int, size: int) -> None: ...

    def unregister(self, offset: int) -> None: ...

    def read_file_slice(
        self,
        file: Any,
        file_offset: int,
        size: int,
        offset: int = 0,
        stream: int = 0,
        device_ptr: int = 0,
        device: Any = -1,
    ) -> None:
        at = self.get_raw_address() + int(offset)
        _read(file, int(file_offset), int(size), at)
        if device_ptr:
            ctypes.memmove(int(device_ptr), at, int(size))
            _count(int(size))
        self.size = max(self.size, int(offset) + int(size))


def read_file_to_device(
    file: Any,
    file_offset: int,
    size: int,
    stream: int,
    device_ptr: int,
    device: Any,
    mark_cold: bool = True,
) -> None:
    _read(file, int(file_offset), int(size), int(device_ptr))
    _count(int(size))


def cleanup_file_reader() -> None: ...


def _count(size: int) -> None:
    torch_npu.add("h2d_bytes", size)
    torch_npu.add("h2d_count", 1)


def _read(file: Any, file_offset: int, size: int, at: int) -> None:
    fd = file if isinstance(file, int) else file.fileno()
    view = memoryview((ctypes.c_uint8 * size).from_address(at)).cast("B")
    done = 0
    while done < size:
        count = os.preadv(fd, [view[done:]], file_offset + done)
        if count <= 0:
            raise RuntimeError("read failed")
        done += count
