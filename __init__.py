"""Comfy Preload: load models before ComfyUI takes traffic, and report at `/ready`.

What ComfyUI imports, under a name that it makes from this folder's path. The code is in the package
`comfy_preload`, imported from its file: a `sys.path` entry for this folder would let our `nodes` shadow
ComfyUI's.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent / "comfy_preload"
NODE_CLASS_MAPPINGS: dict[str, type] = {}
NODE_DISPLAY_NAME_MAPPINGS: dict[str, str] = {}
WEB_DIRECTORY = "./web"

if "comfy_preload" not in sys.modules:  # `prestartup_script.py` did not run
    spec = importlib.util.spec_from_file_location("comfy_preload", PACKAGE / "__init__.py")
    if spec is not None and spec.loader is not None:
        sys.modules["comfy_preload"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules["comfy_preload"])

if list(sys.modules["comfy_preload"].__path__) == [str(PACKAGE)]:
    from . import nodes

    NODE_CLASS_MAPPINGS = nodes.NODE_CLASS_MAPPINGS
    NODE_DISPLAY_NAME_MAPPINGS = nodes.NODE_DISPLAY_NAME_MAPPINGS
    nodes.attach(importlib.import_module("comfy_preload.boot.plugin").install())
else:
    logging.getLogger("preload").warning(
        "the plugin is installed twice in custom_nodes; ignoring %s", PACKAGE.parent.name
    )
