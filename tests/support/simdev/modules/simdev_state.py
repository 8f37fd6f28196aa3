"""The counters of a simulated device, read in any process, and its limit and faults, changed while it runs.

The file is named by SIMDEV_STATE. Its fields are those of `State` in src/memory.h, in the same order.
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

FIELDS = (
    *("magic", "limit", "other", "active", "reserved", "peak", "allocs", "frees", "live", "ooms", "emptied"),
    *("h2d_bytes", "h2d_count", "d2h_bytes", "d2h_count", "d2d_bytes", "kernels", "mixed", "adopted"),
    *("fail_allocs", "fail_min", "fault", "pinned", "slow_ns_per_mb"),
)
"""Bytes where it does not say otherwise.

limit: of the device. other: held by other processes. active: held by tensors. reserved: active and what
`empty_cache` gives back. h2d, d2h: copied from host to device and back. mixed: operators that met tensors of
both (they raise). fail_allocs: that many allocations of at least fail_min bytes fail. fault: 1 CUDA, 2 HIP, 3
XPU, 4 NPU; 0 for none.
"""
SIZE = 8 * 32
FAULTS = {"CUDA": 1, "HIP": 2, "XPU": 3, "NPU": 4}


class DeviceState:
    """One device, by the file that it shares."""

    def __init__(self, path: Path) -> None:
        """The file is made by the process that has the device, when it imports torch_npu."""
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), SIZE)

    def __getitem__(self, name: str) -> int:
        """The value of a field now."""
        found: int = struct.unpack_from("q", self._map, 8 * FIELDS.index(name))[0]
        return found

    def set(self, **values: int) -> None:
        """Change fields; the device sees it at its next call."""
        for name, value in values.items():
            struct.pack_into("q", self._map, 8 * FIELDS.index(name), value)

    def read(self) -> dict[str, int]:
        """All fields, by name."""
        return {name: self[name] for name in FIELDS}
