"""`Sink`, a node for tests: the executor runs whatever feeds it, and it reports what arrived.

Runs inside ComfyUI, in its own custom-node folder. The report is in the history under `outputs`.
"""

from __future__ import annotations

from typing import Any


class Sink:
    """Report for each connected input the ids of object and module, the patches, the sum of the weights."""

    CATEGORY = "tests"
    FUNCTION = "report"
    OUTPUT_NODE = True
    RETURN_TYPES = ()

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, dict[str, tuple[str]]]:
        return {"required": {}, "optional": dict.fromkeys(("model", "clip", "vae", "any"), ("*",))}

    @classmethod
    def VALIDATE_INPUTS(cls, input_types: dict[str, str]) -> bool:
        """Accept any type: a parameter `input_types` turns ComfyUI's own type check off."""
        return True

    @classmethod
    def IS_CHANGED(cls, **_inputs: Any) -> float:
        """Return NaN, which is never equal to itself: the sink runs in every prompt."""
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
