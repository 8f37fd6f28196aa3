"""The simulated accelerator as `torch.npu`, which an unmodified ComfyUI asks for (comfy/model_management.py).

SIMDEV_LIB: the library built of src/. SIMDEV_MB: the device's memory. SIMDEV_STATE: the file with its
counters and faults. SIMDEV_SET: faults from the first moment on, such as `fail_allocs=1,fail_min=50000000`.
"""

from __future__ import annotations

import ctypes
import os
import types
from typing import Any

import simdev_state
import torch

lib = ctypes.CDLL(os.environ["SIMDEV_LIB"])
lib.simdev_state.restype = ctypes.POINTER(ctypes.c_int64)
lib.simdev_fault_text.restype = ctypes.c_char_p
_state = lib.simdev_state()


def read(name: str) -> int:
    """A field of the device's state."""
    found: int = _state[simdev_state.FIELDS.index(name)]
    return found


def add(name: str, count: int) -> None:
    """Count something."""
    _state[simdev_state.FIELDS.index(name)] += count


def _set(given: str) -> None:
    for name, _, value in (pair.partition("=") for pair in given.split(",") if pair):
        _state[simdev_state.FIELDS.index(name)] = int(value)


def _synchronize(_: Any = None) -> None:
    if read("fault"):
        raise torch.AcceleratorError(lib.simdev_fault_text().decode())


def _empty_cache() -> None:
    _synchronize()
    lib.simdev_empty_cache()


def _memory(_: Any = None) -> tuple[int, int]:
    return max(0, read("limit") - read("other") - read("reserved")), read("limit")


def _statistics(_: Any = None) -> dict[str, int]:
    return {
        "active_bytes.all.current": read("active"),
        "allocated_bytes.all.current": read("active"),
        "reserved_bytes.all.current": read("reserved"),
        "num_ooms": read("ooms"),
    }


class _HostMemory:
    """Registering host memory for fast copies, counted, with CUDA's own error numbers."""

    def __init__(self) -> None:
        self.held: dict[int, int] = {}

    def register(self, start: int, size: int, _flags: int) -> int:
        if start in self.held:
            return 712
        self.held[start] = size
        add("pinned", size)
        return 0

    def unregister(self, start: int) -> int:
        if start not in self.held:
            return 713
        add("pinned", -self.held.pop(start))
        return 0


_host_memory = _HostMemory()


def unregister_range(start: int, size: int) -> None:
    """Forget the registrations that begin in this range."""
    for at in [at for at in _host_memory.held if start <= at < start + size]:
        _host_memory.unregister(at)


npu = types.ModuleType("torch.npu")
npu.__dict__.update(
    is_available=lambda: True,
    device_count=lambda: 1,
    current_device=lambda: 0,
    set_device=lambda _: None,
    is_initialized=lambda: True,
    _is_in_bad_fork=lambda: False,
    manual_seed=lambda _: None,
    manual_seed_all=lambda _: None,
    get_rng_state=lambda _=None: torch.default_generator.get_state(),
    set_rng_state=lambda state, _=None: torch.default_generator.set_state(state),
    get_amp_supported_dtype=lambda: [torch.float16, torch.bfloat16],
    get_device_name=lambda _=None: "simulated",
    synchronize=_synchronize,
    empty_cache=_empty_cache,
    mem_get_info=_memory,
    memory_allocated=lambda _=None: read("active"),
    memory_reserved=lambda _=None: read("reserved"),
    max_memory_allocated=lambda _=None: read("peak"),
    memory_stats=_statistics,
)
_set(os.environ.get("SIMDEV_SET", ""))
torch.utils.rename_privateuse1_backend("npu")  # pyright: ignore[reportPrivateImportUsage] — see torch/utils/__init__.py
torch._register_device_module("npu", npu)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] — there is no other way
torch.utils.generate_methods_for_privateuse1_backend(for_storage=False)  # pyright: ignore[reportPrivateImportUsage]
torch.version.cuda = None  # the wheel's own would have ComfyUI look for NVIDIA's driver
_cudart = types.SimpleNamespace(
    cudaHostRegister=_host_memory.register, cudaHostUnregister=_host_memory.unregister
)
torch.cuda.cudart = lambda: _cudart
