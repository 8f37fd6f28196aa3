"""Loader nodes that do what a loader node must not do.

Runs inside ComfyUI.
"""

from __future__ import annotations

import sys
from typing import Any, NoReturn

import folder_paths
import torch
from comfy_api.latest import io
from comfy_execution.graph_utils import ExecutionBlocker

Inputs = dict[str, dict[str, Any]]


class _Fault:
    CATEGORY = "tests"
    FUNCTION = "load"
    RETURN_TYPES = ("BRICK",)

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {}}


class TestRaisingLoader(_Fault):
    """Raise, with a path of this machine in the message."""

    def load(self) -> NoReturn:
        raise RuntimeError(
            f"cannot use '{folder_paths.models_dir}/vae/a file.bin' ({folder_paths.base_path}/models)\n"
            "second line"
        )


class TestExitLoader(_Fault):
    """Try to exit the process."""

    def load(self) -> NoReturn:
        sys.exit("no licence key")


class TestHungryLoader(_Fault):
    """Raise an out-of-memory error."""

    def load(self) -> NoReturn:
        raise MemoryError


class TestDictLoader(_Fault):
    """Returns something to show and no model."""

    def load(self) -> dict[str, Any]:
        return {"ui": {"text": ["done"]}}


class TestBlockingLoader(_Fault):
    """Returns what stops everything behind it."""

    def load(self) -> tuple[ExecutionBlocker]:
        return (ExecutionBlocker(None),)


class TestNothingLoader(_Fault):
    """Return nothing."""

    def load(self) -> None:
        return None


class TestBrokenInputsLoader(_Fault):
    """Raise in INPUT_TYPES."""

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        raise KeyError("a folder that is not there")


class TestExpandingLoader(io.ComfyNode):
    """Return a graph to run instead of a model."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema("TestExpandingLoader", outputs=[io.Custom("BRICK").Output()], enable_expand=True)

    @classmethod
    def execute(cls) -> io.NodeOutput:
        return io.NodeOutput(1, expand={"1": {"class_type": "EmptyImage", "inputs": {}}})


class TestDeviceError(_Fault):
    """Raise what torch raises when the device fails permanently or runs out of memory.

    Used in a separate prompt.
    """

    OUTPUT_NODE = True
    RETURN_TYPES = ()

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"words": ("STRING", {})}}

    def load(self, words: str) -> NoReturn:
        raise torch.AcceleratorError(words)


_FAULTS = (
    *(TestRaisingLoader, TestExitLoader, TestHungryLoader, TestDictLoader),
    TestBlockingLoader,
    *(TestNothingLoader, TestBrokenInputsLoader, TestExpandingLoader),
    TestDeviceError,
)
NODE_CLASS_MAPPINGS: dict[str, type] = {cls.__name__: cls for cls in _FAULTS}
