"""What stops one of ComfyUI's threads.

A route that blocks the event loop, nodes that hold or end the prompt worker.

Runs inside ComfyUI.
"""

from __future__ import annotations

import ctypes
import sys
import time
from pathlib import Path
from typing import Any

import folder_paths
from aiohttp import web
from server import PromptServer


@PromptServer.instance.routes.get("/test/block")
async def block(_request: web.Request) -> web.Response:
    """Block the event loop until there is a file `go` in the input folder."""
    while not (Path(folder_paths.get_input_directory()) / "go").exists():
        time.sleep(0.1)  # noqa: ASYNC251 — that is the fault
    return web.Response()


class TestHold:
    """Keep the prompt worker busy; `how` is `sleep`, `hold` (no other thread can run) or `exit`."""

    CATEGORY = "tests"
    FUNCTION = "run"
    RETURN_TYPES = ()
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, dict[str, Any]]:
        return {"required": {"how": ("STRING", {}), "seconds": ("INT", {"default": 0})}}

    def run(self, how: str, seconds: int) -> dict[str, Any]:
        if how == "exit":
            sys.exit("no licence key")
        if how == "sleep":
            time.sleep(seconds)
        else:
            interpreter = ctypes.PyDLL(None)  # unlike CDLL it keeps the interpreter while it calls
            left = seconds
            while left:
                left = interpreter.sleep(left)
        return {}


NODE_CLASS_MAPPINGS: dict[str, type] = {"TestHold": TestHold}
