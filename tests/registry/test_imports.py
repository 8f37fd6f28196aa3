"""The registry costs nothing where there is none, and little where there is one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {
    "torch",
    "comfy",
    "nodes",
    "folder_paths",
    "execution",
    "server",
    "pydantic",
    "numpy",
    "redis",
    "aiohttp",
}
CHILD = """
import importlib, sys
sys.path.insert(0, sys.argv[1])
importlib.import_module("comfy_preload." + sys.argv[2])
print(*sorted(sys.modules))
"""


def imported(module: str) -> set[str]:
    command = [sys.executable, "-I", "-c", CHILD, str(ROOT), module]
    return set(subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.split())


def test_light() -> None:
    """redis-py is imported when it connects, in a thread; torch and ComfyUI never."""
    assert set() == {name.partition(".")[0] for name in imported("registry.service")} & HEAVY


@pytest.mark.parametrize("module", ["boot.plugin", "boot.before_torch", "core.state.snapshot", "api.queries"])
def test_not_there(module: str) -> None:
    """Nothing of it is imported before the settings ask for it."""
    assert not [name for name in imported(module) if ".registry" in name]
