"""Call ComfyUI's loader nodes, then exit: a recipe that only fills the page cache. Run by ComfyUI's Python.

call_loaders.py COMFYUI BASE_DIRECTORY CALLS [COMFYUI_ARGUMENTS]

CALLS: JSON, [{"class_type": …, "inputs": {…}}]
"""

from __future__ import annotations

import importlib
import json
import sys

host, base, calls, *arguments = sys.argv[1:]
sys.path.insert(0, host)
sys.argv = [f"{host}/main.py", "--base-directory", base, *arguments]

importlib.import_module("comfy.options").enable_args_parsing()
nodes = importlib.import_module("nodes")
torch = importlib.import_module("torch")

with torch.inference_mode():
    for call in json.loads(calls):
        cls = nodes.NODE_CLASS_MAPPINGS[call["class_type"]]
        getattr(cls(), cls.FUNCTION)(**call["inputs"])
