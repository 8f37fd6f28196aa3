"""The core is ordinary Python: it runs where there is no torch and no ComfyUI."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted(path.stem for path in (ROOT / "core").glob("*.py"))
HOST = {"torch", "comfy", "nodes", "folder_paths", "execution", "server"}
HEAVY = HOST | {"pydantic", "numpy"}
NEEDS_PYDANTIC = {"schema", "settings", "sources"}
"""What startup.py imports only if there is something to preload."""

CHILD = """
import importlib, sys, types
package = types.ModuleType("preload_plugin")
package.__path__ = [sys.argv[1]]
sys.modules["preload_plugin"] = package
importlib.import_module("preload_plugin." + sys.argv[2])
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


def imported(module: str) -> set[str]:
    """Top-level modules in a fresh interpreter that has imported this one of ours."""
    command = [sys.executable, "-I", "-c", CHILD, str(ROOT), module]
    return set(subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.split())  # noqa: S603 — our own


@pytest.mark.parametrize("module", MODULES)
def test_core(module: str) -> None:
    """No module of the core imports torch or ComfyUI, and only what makes settings imports pydantic."""
    allowed = {"pydantic"} if module in NEEDS_PYDANTIC else set[str]()

    assert set() == imported("core" if module == "__init__" else f"core.{module}") & (HEAVY - allowed)


@pytest.mark.parametrize("module", ["startup", "api.routes", "api.probe", "nodes", "host.server"])
def test_start(module: str) -> None:
    """What ComfyUI's start imports in any case is as light."""
    assert set() == imported(module) & HEAVY
