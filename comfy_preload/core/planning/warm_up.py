"""A workflow -> the prompts of its warm-up: overrides and sizes applied, nothing saved."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from comfy_preload.core.errors import Problem, problem
from comfy_preload.core.node_types import NodeTypes, accepts
from comfy_preload.core.text import did_you_mean
from comfy_preload.core.workflow.reader import linked

if TYPE_CHECKING:
    from comfy_preload.core.settings.schema import Shape

SINK = "ComfyPreload_Sink"
"""Stands in for nodes that save or show: takes anything, does nothing (host/prompts.py)."""
SINK_INPUTS = 16

Prompt = dict[str, dict[str, Any]]


def override(prompt: Prompt, overrides: Mapping[str, Any], name: str) -> tuple[Problem, ...]:
    """Set inputs in place: `3.steps` of node 3, `KSampler.steps` of every node of that class. Returns what fits nothing."""
    wrong: list[Problem] = []
    for key, value in overrides.items():
        where, _, what = key.rpartition(".")
        nodes = [
            n for i, n in prompt.items() if (i == where or n["class_type"] == where) and what in n["inputs"]
        ]
        for node in nodes:
            node["inputs"][what] = value
        if not nodes:
            known = [
                f"{i}.{given}"
                for i, node in prompt.items()
                for given, v in node["inputs"].items()
                if linked(v) is None
            ]
            shown = ", ".join(known[:20]) + (", …" if len(known) > 20 else "")
            suggestion = did_you_mean(key, known, "Names are NODE.INPUT, as in the workflow's API format.")
            wrong.append(
                problem(
                    "override_unknown",
                    found=key,
                    workflow=name,
                    expected=shown or "none",
                    suggestion=suggestion,
                )
            )
    return tuple(wrong)


def sized(prompt: Prompt, shape: Shape) -> Prompt:
    """A copy in which every node that makes an empty latent of a size makes one of that size."""
    changed = copy.deepcopy(prompt)
    given = {"width": shape.width, "height": shape.height, "batch_size": shape.batch}
    for node in _latents(changed):
        inputs = node["inputs"]
        inputs |= {
            key: value
            for key, value in given.items()
            if value is not None and linked(inputs.get(key)) is None
        }
    return changed


def shape_of(prompt: Prompt) -> str:
    """What a run goes through, for reading: '1024x1024, batch 1'."""
    sizes = dict.fromkeys(
        f"{i['width']}x{i['height']}"
        + (f", batch {i['batch_size']}" if isinstance(i.get("batch_size"), int) else "")
        for i in (node["inputs"] for node in _latents(prompt))
        if isinstance(i["width"], int) and isinstance(i["height"], int)
    )
    return "; ".join(sizes) or "as the workflow has it"


def unsaved(prompt: Prompt, types: NodeTypes) -> Prompt:
    """A copy in which every output node is a sink, so that nothing is written or shown.

    A node that hands on what it saves is looked through: who used its output gets its input of that type.
    """
    changed = copy.deepcopy(prompt)
    specs = {name: types.node(node["class_type"]) for name, node in changed.items()}
    savers = {name for name, spec in specs.items() if spec is not None and spec.output_node}
    for node in changed.values():
        for key, value in node["inputs"].items():
            source = linked(value)
            if source in savers and (through := _through(changed[source], specs[source], value[1])):
                node["inputs"][key] = through
    for name in savers:
        links = [value for value in changed[name]["inputs"].values() if linked(value) is not None][
            :SINK_INPUTS
        ]
        if links:
            changed[name] = {"class_type": SINK, "inputs": {f"any{i}": link for i, link in enumerate(links)}}
        else:
            del changed[name]
    return changed


def _through(saver: Mapping[str, Any], spec: Any, output: int) -> list[Any] | None:
    offered = spec.outputs[output] if output < len(spec.outputs) else ""
    fitting = (
        i for i in spec.inputs if offered and i.type not in ("COMBO", "STRING") and accepts(i.type, offered)
    )
    return next(
        (saver["inputs"][i.name] for i in fitting if linked(saver["inputs"].get(i.name)) is not None), None
    )


def _latents(prompt: Prompt) -> Iterable[dict[str, Any]]:
    """Nodes that start from a size and from no image: EmptyLatentImage and its kin of every model family."""
    for node in prompt.values():
        inputs = node["inputs"]
        if (
            "Latent" in node["class_type"]
            and "width" in inputs
            and "height" in inputs
            and not any(key in inputs for key in ("samples", "pixels", "image"))
        ):
            yield node
