"""Owns the simulated accelerator of a test.

How a ComfyUI is started on one, and what its allocator says while it runs.

What it shows and what it does not: docs/device.md.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, final

from tests.support.comfy import ComfyServer
from tests.support.simdev.modules.simdev_state import FAULTS, DeviceState
from tools.host import comfyui_path, comfyui_python
from tools.simdev import library

__all__ = ["FAULTS", "MB", "Device", "aimdo_is_asked_for", "options"]

SIMDEV = Path(__file__).resolve().parent / "simdev"
MB = 1 << 20
_RESIDENT = re.compile(
    r'^comfyui_preload_model_resident_bytes{device="([^"]*)",model="[^"]*"} (\S+)$', re.MULTILINE
)


def aimdo_is_asked_for() -> bool:
    """This ComfyUI has dynamic VRAM (`comfy_aimdo`, since 0.12)."""
    return "comfy_aimdo" in (comfyui_path() / "main.py").read_text(encoding="utf-8")


def options(
    base: Path, *, megabytes: int = 16384, dynamic: bool = False, args: Sequence[str] = (), **faults: int
) -> dict[str, Any]:
    """Arguments for ComfyServer: a device of that size in place of the CPU.

    Args:
        base: a folder for the device's state.
        megabytes: memory of the device.
        dynamic: with dynamic VRAM, on a ComfyUI that has it.
        args: further arguments for ComfyUI.
        faults: fields of `simdev_state.FIELDS`, set from the first moment on.
    """
    folders = [SIMDEV / "dynamic_vram"] if dynamic else []
    environment = {
        "PYTHONPATH": ":".join(map(str, [*folders, SIMDEV / "modules"])),
        "SIMDEV_LIB": str(library(comfyui_python())),
        "SIMDEV_MB": str(megabytes),
        "SIMDEV_STATE": str(base / "device"),
        "SIMDEV_SET": ",".join(f"{name}={value}" for name, value in faults.items()),
    }
    flags = ["--enable-dynamic-vram"] if dynamic else []
    return {"cpu": False, "env": environment, "args": [*flags, *args]}


@final
class Device:
    """A server and the device that it runs on."""

    def __init__(self, server: ComfyServer, base: Path) -> None:
        """`base`: as given to `options`."""
        self.server = server
        self._base = base

    @cached_property
    def _state(self) -> DeviceState:
        path = self._base / "device"
        self.server.wait(lambda: path.exists() and path.stat().st_size > 0, "on its device")
        state = DeviceState(path)
        self.server.wait(lambda: state["limit"] > 0, "on its device")
        return state

    def __getitem__(self, field: str) -> int:
        """A counter of the device; see `simdev_state.FIELDS`."""
        return self._state[field]

    def set(self, **values: int) -> None:
        """Change the device while it runs: limit, other, fail_allocs, fail_min, fault."""
        self._state.set(**values)

    @property
    def held(self) -> int:
        """Bytes that the allocator has given out."""
        return self._state["active"]

    @property
    def said_by_device(self) -> dict[str, int]:
        """Bytes that the metrics report on each device."""
        found: Counter[str] = Counter()
        for device, value in _RESIDENT.findall(self.server.get("/preload/metrics").text):
            found[device] += int(float(value))
        return dict(found)

    @property
    def said(self) -> int:
        """Bytes that the metrics report on this device."""
        return self.said_by_device.get("npu:0", 0)

    @property
    def host_bytes(self) -> int:
        """Private memory of the process (RssAnon), which does not count what stands for the device's."""
        status = Path(f"/proc/{self.server.pid}/status").read_text(encoding="utf-8")
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon")) * 1024
