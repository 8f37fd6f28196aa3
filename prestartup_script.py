"""Start reading the model files before ComfyUI imports torch.

ComfyUI executes this file by itself, not as part of a package (`execute_prestartup_script`, main.py 0.3.75).
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent / "comfy_preload"

if "comfy_preload" not in sys.modules:  # otherwise the plugin is installed twice: `__init__.py` reports it
    spec = importlib.util.spec_from_file_location("comfy_preload", PACKAGE / "__init__.py")
    if spec is not None and spec.loader is not None:
        package = sys.modules["comfy_preload"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(package)
        importlib.import_module("comfy_preload.boot.before_torch").begin()
