"""Owns `Sink`, a node for tests: it makes the executor run whatever feeds it and tells what arrived.

Runs inside ComfyUI, in a custom-node folder of its own. Its answer stands in the history entry under `outputs`.
"""

from __future__ import annotations

from typing import Any


class Sink:
    """Reports, per connected input, the Python ids of the object and of its module, its patches and the sum of its weights."""

    CATEGORY = "tests"
    FUNCTION = "report"
    OUTPUT_NODE = True
    RETURN_TYPES = ()

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, dict[str, tuple[str]]]:
        return {"required": {}, "optional": dict.fromkeys(("model", "clip", "vae", "any"), ("*",))}

    @classmethod
    def VALIDATE_INPUTS(cls, input_types: dict[str, str]) -> bool:
        """Naming `input_types` switches ComfyUI's own type check off: anything may be connected."""
        return True

    @classmethod
    def IS_CHANGED(cls, **_inputs: Any) -> float:
        """Never equal to itself: the sink runs in every prompt."""
        return float("nan")

    def report(self, **inputs: Any) -> dict[str, Any]:
        return {"ui": {"objects": [{"input": name, **_describe(value)} for name, value in inputs.items()]}}


def _describe(value: Any) -> dict[str, Any]:
    patcher = getattr(value, "patcher", value)  # CLIP and VAE hold their ModelPatcher, a MODEL is one
    module = getattr(patcher, "model", None)
    facts: dict[str, Any] = {"type": type(value).__name__, "id": id(value)}
    if module is not None and hasattr(patcher, "patches"):  # an upscale model has a module but no patcher
        facts |= {
            "module": id(module),
            "patches": len(patcher.patches),
            "loaded_bytes": patcher.loaded_size(),
            "weights": sum(weight.double().sum().item() for weight in module.parameters()),
        }
    return facts


NODE_CLASS_MAPPINGS: dict[str, type] = {"Sink": Sink}
