"""V1 loader nodes in every form that ComfyUI allows. They return a `Brick`, unknown to ComfyUI.

Runs inside ComfyUI. Each says in the log what it built, so a test can count.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
from pathlib import Path
from typing import Any

import comfy.model_management as mm
import comfy.utils
import folder_paths

log = logging.getLogger("loaders")
Inputs = dict[str, dict[str, Any]]

log.info(
    "loaders: imported %s the plugin",
    "after" if any("comfyui-preload" in name for name in sys.modules) else "before",
)


class Brick:
    """Something loaded."""

    def __init__(self, loader: str, content: object) -> None:
        self.content = content
        log.info("%s built a brick of %s", loader, content)


class _Loader:
    CATEGORY = "tests"
    FUNCTION = "load"
    RETURN_TYPES = ("BRICK",)


class TestAsyncLoader(_Loader):
    """A coroutine that reads a file."""

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"file": (folder_paths.get_filename_list("vae"),)}}

    async def load(self, file: str) -> tuple[Brick]:
        path = Path(folder_paths.get_full_path_or_raise("vae", file))
        content = await asyncio.to_thread(path.read_bytes)
        return (Brick("TestAsyncLoader", f"{len(content)} bytes"),)


class TestHiddenLoader(_Loader):
    """A node with hidden inputs, whose values differ in every graph."""

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        hidden = {"unique_id": "UNIQUE_ID", "prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO"}
        return {"required": {"number": ("INT", {"default": 1})}, "hidden": hidden}

    def load(
        self, number: int, unique_id: str, prompt: dict[str, Any], extra_pnginfo: dict[str, Any] | None
    ) -> tuple[Brick]:
        del prompt, extra_pnginfo
        return (Brick("TestHiddenLoader", f"{number} in node {unique_id}"),)


class TestHeirLoader(TestHiddenLoader):
    """A node that inherits everything."""


class TestListLoader(_Loader):
    """A node that gets each input as a list."""

    INPUT_IS_LIST = True

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"number": ("INT", {"default": 1})}}

    def load(self, number: list[int]) -> tuple[Brick]:
        return (Brick("TestListLoader", number),)


class TestDefaultsLoader(_Loader):
    """Defaults for all required inputs, and optional inputs whose defaults only the function declares."""

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        required = {
            "mode": (["slow", "fast"],),
            "size": ("FLOAT", {"default": 0.5}),
            "text": ("STRING", {"default": "as it comes"}),
            "strict": ("BOOLEAN", {"default": True}),
        }
        return {"required": required, "optional": {"device": (["default", "cpu"],)}}

    def load(self, mode: str, size: float, text: str, strict: bool, device: str = "default") -> tuple[Brick]:  # noqa: FBT001 — ComfyUI's widget
        return (Brick("TestDefaultsLoader", (mode, size, text, strict, device)),)


class TestProgressLoader(_Loader):
    """A node that shows a progress bar, which ComfyUI allows only inside a prompt."""

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {}}

    def load(self) -> tuple[Brick]:
        bar = comfy.utils.ProgressBar(2)
        for _ in range(2):
            bar.update(1)
        return (Brick("TestProgressLoader", "progress"),)


class TestGateLoader(_Loader):
    """A node that waits until a file of that name exists among ComfyUI's inputs.

    It can be cancelled if `heeds_cancel`.
    """

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"gate": ("STRING", {}), "heeds_cancel": ("BOOLEAN", {"default": False})}}

    def load(self, gate: str, heeds_cancel: bool) -> tuple[Brick]:  # noqa: FBT001 — ComfyUI's widget
        log.info("waiting at gate %s", gate)
        path, end = Path(folder_paths.get_input_directory()) / gate, time.monotonic() + 120
        while not path.exists() and time.monotonic() < end:
            threading.Event().wait(0.02)
            if heeds_cancel:
                mm.throw_exception_if_processing_interrupted()
        return (Brick("TestGateLoader", gate),)


_LOADERS = (
    *(TestAsyncLoader, TestHiddenLoader, TestHeirLoader, TestListLoader),
    *(TestDefaultsLoader, TestProgressLoader, TestGateLoader),
)
NODE_CLASS_MAPPINGS: dict[str, type] = {cls.__name__: cls for cls in _LOADERS}
