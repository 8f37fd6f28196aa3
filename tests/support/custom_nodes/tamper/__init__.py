"""Nodes that misuse a model: they change it in place, or leave clones in a reference cycle.

Runs inside ComfyUI.
"""

from __future__ import annotations

import gc
from typing import Any

import comfy.model_management as mm
import torch


class _OnModel:
    CATEGORY = "tests"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, dict[str, Any]]:
        return {"required": {"model": ("MODEL",)}}

    @classmethod
    def IS_CHANGED(cls, **_: Any) -> float:
        return float("nan")


class TestMutate(_OnModel):
    """Add one to a weight of the model itself, without a clone."""

    FUNCTION = "mutate"
    RETURN_TYPES = ("MODEL",)

    def mutate(self, model: Any) -> tuple[Any]:
        with torch.no_grad():
            next(model.model.parameters()).add_(1)
        return (model,)


class TestCycle(_OnModel):
    """Load a clone of a clone, both in one reference cycle, and count the dead entries that remain."""

    FUNCTION = "leave_dead"
    OUTPUT_NODE = True
    RETURN_TYPES = ()

    def leave_dead(self, model: Any) -> dict[str, Any]:
        self._load(model)
        gc.collect()
        dead = [entry for entry in mm.current_loaded_models if entry.model is None]
        return {"ui": {"dead": [len(dead)]}}

    def _load(self, model: Any) -> None:
        parent = model.clone()
        child = parent.clone()
        parent.cycle = child
        mm.load_models_gpu([child])


NODE_CLASS_MAPPINGS: dict[str, type] = {cls.__name__: cls for cls in (TestMutate, TestCycle)}
