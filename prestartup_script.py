"""Runs before ComfyUI imports torch: start reading the model files into the page cache.

ComfyUI executes this file by itself, without its package (`execute_prestartup_script`, main.py).
"""

from __future__ import annotations

import importlib
import sys
import types
from pathlib import Path

ROOT = Path(__file__).resolve().parent


def _package() -> str:
    """Give the plugin's folder the name that `__init__.py` imports it by, and return that name."""
    name = "comfy_preload"
    if name not in sys.modules:
        package = types.ModuleType(name)
        package.__path__ = [str(ROOT)]
        sys.modules[name] = package
    return name


importlib.import_module(f"{_package()}.early").begin(ROOT)
