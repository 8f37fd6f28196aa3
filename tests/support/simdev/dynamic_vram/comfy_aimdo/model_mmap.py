"""A model file as private memory."""

from __future__ import annotations

import ctypes
import mmap
import os


class ModelMMAP:
    def __init__(self, filepath: str) -> None:
        self._fd = os.open(filepath, os.O_RDONLY)
        self._area = mmap.mmap(self._fd, 0, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)
        self._at = ctypes.addressof(ctypes.c_char.from_buffer(self._area))

    def __del__(self) -> None:
        os.close(self._fd)

    def get(self) -> int:
        return self._at

    def get_file_handle(self) -> int:
        return self._fd

    def bounce(self) -> bool:
        """Give its pages back; they are read again when they are asked for."""
        self._area.madvise(mmap.MADV_DONTNEED)
        return True
