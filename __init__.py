"""Comfy Preload: models loaded before ComfyUI takes traffic, and `/ready` to tell.

What ComfyUI sees of this folder. ComfyUI imports it under its path and runs `prestartup_script.py`
without a package; everything else goes by one name, so that both meet in the same modules.
"""

from __future__ import annotations

import importlib
import sys
import types
from pathlib import Path

_ROOT = Path(__file__).resolve().parent
_NAME = "comfy_preload"
if _NAME not in sys.modules:
    sys.modules[_NAME] = types.ModuleType(_NAME)
    sys.modules[_NAME].__path__ = [str(_ROOT)]

_nodes = importlib.import_module(f"{_NAME}.nodes")
NODE_CLASS_MAPPINGS = _nodes.NODE_CLASS_MAPPINGS
NODE_DISPLAY_NAME_MAPPINGS = _nodes.NODE_DISPLAY_NAME_MAPPINGS
WEB_DIRECTORY = "./web"

importlib.import_module(f"{_NAME}.startup").install(_ROOT)
