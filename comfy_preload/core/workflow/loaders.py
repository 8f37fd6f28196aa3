"""The loader calls in a workflow: which classes load models, and with which plain values they are called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from comfy_preload.core.errors import Problem, problem
from comfy_preload.core.node_types import PLAIN_TYPES, NodeSpec, NodeTypes
from comfy_preload.core.workflow.graph import shown
from comfy_preload.core.workflow.reader import Workflow, linked

MODEL_TYPES = frozenset(
    {"BACKGROUND_REMOVAL", "CLIP", "CLIP_VISION", "CONTROL_NET", "GLIGEN", "MODEL_PATCH", "PHOTOMAKER"}
)
"""ComfyUI's own types of models whose names do not say so."""
MODEL_ENDINGS = ("MODEL", "VAE", "ENCODER")
"""…and how the other ones end, ComfyUI's and plugins': STYLE_MODEL, AUDIO_ENCODER, WANVIDEOMODEL, WANVAE."""


@dataclass(frozen=True)
class Call:
    """One loader node. `inputs` holds plain values only; what is not known is left out and told."""

    node_id: str
    class_type: str
    inputs: Mapping[str, Any]
    problems: tuple[Problem, ...] = ()


def is_model(kind: str) -> bool:
    return any(word in MODEL_TYPES or word.endswith(MODEL_ENDINGS) for word in kind.upper().split(","))


def is_loader(spec: NodeSpec) -> bool:
    """A class that returns a model and takes none."""
    if spec.name.startswith("ComfyPreload_"):  # hands out what is in the plan already
        return False
    return any(map(is_model, spec.outputs)) and not any(is_model(i.type) for i in spec.inputs)


def loader_calls(workflow: Workflow, types: NodeTypes) -> tuple[Call, ...]:
    """Every loader node in the prompt, in the order of the prompt."""
    found: list[Call] = []
    for name, node in workflow.prompt.items():
        spec = types.node(node["class_type"])
        if spec is None or not is_loader(spec):
            continue
        inputs: dict[str, Any] = {}
        problems: list[Problem] = []
        for key, value in node["inputs"].items():
            plain = _plain(workflow.prompt, value, types)
            if plain is None:
                problems.append(
                    problem("workflow_value_computed", node=shown(name), loader=spec.name, input=shown(key))
                )
            else:
                inputs[key] = plain[0]
        found.append(Call(name, spec.name, inputs, tuple(problems)))
    return tuple(found)


def _plain(prompt: Mapping[str, Mapping[str, Any]], value: Any, types: NodeTypes) -> tuple[Any] | None:
    """The value of an input, in a tuple; None if only running the workflow can tell it.

    A node that has one input and hands it on, as ComfyUI's Primitive nodes do, is looked through.
    """
    hops = 0
    while (source := linked(value)) is not None:
        node = prompt.get(source)
        spec = types.node(node["class_type"]) if node is not None else None
        hops += 1
        if node is None or spec is None or hops > len(prompt) or not _hands_on(spec):
            return None
        name = spec.inputs[0].name
        if name not in node["inputs"]:
            return None
        value = node["inputs"][name]
    return (value["__value__"],) if isinstance(value, dict) and "__value__" in value else (value,)


def _hands_on(spec: NodeSpec) -> bool:
    one = len(spec.inputs) == len(spec.outputs) == 1 and not spec.output_node
    return one and spec.inputs[0].type == spec.outputs[0] and spec.outputs[0] in PLAIN_TYPES
