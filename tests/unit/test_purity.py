"""The core is ordinary Python: it runs where there is no torch and no ComfyUI."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tools.host import ROOT

CORE = ROOT / "comfy_preload" / "core"
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in CORE.rglob("*.py")
)
HOST = {"torch", "comfy", "nodes", "folder_paths", "execution", "server"}
HEAVY = HOST | {"pydantic", "numpy"}
NEEDS_PYDANTIC = {
    f"comfy_preload.core.{name}"
    for name in (
        "settings.schema",
        "settings.validation",
        "planning.expansion",
        "planning.missing_entries",
        "settings.write",
    )
}
"""What boot/plugin.py imports only if there is something to preload."""

CHILD = """
import importlib, sys
sys.path.insert(0, sys.argv[1])
importlib.import_module(sys.argv[2])
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


def imported(module: str) -> set[str]:
    """Top-level modules in a fresh interpreter that has imported this one of ours."""
    command = [sys.executable, "-I", "-c", CHILD, str(ROOT), module]
    return set(subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.split())


@pytest.mark.parametrize("module", MODULES)
def test_core(module: str) -> None:
    """No module of the core imports torch or ComfyUI, and only what makes settings imports pydantic."""
    allowed = {"pydantic"} if module in NEEDS_PYDANTIC else set[str]()

    assert set() == imported(module) & (HEAVY - allowed)


@pytest.mark.parametrize(
    "module", ["boot.plugin", "boot.before_torch", "api.routes", "api.probe", "host.server"]
)
def test_start(module: str) -> None:
    """What ComfyUI's start imports in any case is as light."""
    assert set() == imported(f"comfy_preload.{module}") & HEAVY
