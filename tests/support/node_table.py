"""A small table of node classes, declared as ComfyUI declares them, and helpers to write workflow files.

A fake of the protocol `NodeTypes` in core/node_types.py, not of ComfyUI.
"""

from __future__ import annotations

import json
from typing import Any

from comfy_preload.core.node_types import NodeSpec, NodeTypes, declared
from comfy_preload.core.workflow.reader import Workflow, parse

_INT = ("INT", {"default": 0, "min": 0, "max": 100})
_TABLE: dict[str, tuple[dict[str, Any], tuple[Any, ...]]] = {
    "CheckpointLoaderSimple": (
        {"required": {"ckpt_name": (["a.ckpt", "b.ckpt"],)}},
        ("MODEL", "CLIP", "VAE"),
    ),
    "UNETLoader": (
        {"required": {"unet_name": (["a.sft"],), "weight_dtype": (["default", "fp8"],)}},
        ("MODEL",),
    ),
    "LoraLoaderModelOnly": (
        {
            "required": {
                "model": ("MODEL",),
                "lora_name": (["l.sft"],),
                "strength_model": ("FLOAT", {"default": 1.0}),
            }
        },
        ("MODEL",),
    ),
    "CLIPTextEncode": (
        {"required": {"text": ("STRING", {"multiline": True, "dynamicPrompts": True}), "clip": ("CLIP",)}},
        ("CONDITIONING",),
    ),
    "KSampler": (
        {
            "required": {
                "model": ("MODEL",),
                "seed": ("INT", {"default": 0, "control_after_generate": True}),
                "steps": ("INT", {"default": 20}),
                "cfg": ("FLOAT", {"default": 8.0}),
                "positive": ("CONDITIONING",),
            }
        },
        ("LATENT",),
    ),
    "OldSeed": ({"required": {"noise_seed": _INT, "steps": _INT}}, ("INT",)),
    "Picker": (
        {"required": {"choice": (["x", "y"], {"control_after_generate": True}), "after": _INT}},
        ("COMBO",),
    ),
    "LoadImage": (
        {"required": {"image": (["p.png"], {"image_upload": True})}, "optional": {"scale": _INT}},
        ("IMAGE",),
    ),
    "LoadOutput": (
        {"required": {"image": ("COMBO", {"image_upload": True, "image_folder": "output"})}},
        ("IMAGE",),
    ),
    "Forced": ({"required": {"given": ("INT", {"forceInput": True}), "own": _INT}}, ("INT",)),
    "Many": ({"required": {"names": ("COMBO", {"options": ["x"], "multi_select": True})}}, ("STRING",)),
    "PrimitiveString": ({"required": {"value": ("STRING", {})}}, ("STRING",)),
    "Shout": ({"required": {"text": ("STRING", {}), "times": _INT}}, ("STRING",)),
    "Resize": (
        {
            "required": {
                "mode": (
                    "COMFY_DYNAMICCOMBO_V3",
                    {
                        "options": [
                            {"key": "by", "inputs": {"required": {"factor": ("FLOAT", {"default": 2.0})}}},
                            {"key": "to", "inputs": {"required": {"width": _INT, "height": _INT}}},
                        ]
                    },
                ),
                "method": (["fast", "fine"],),
            }
        },
        ("IMAGE",),
    ),
    "Batch": (
        {
            "required": {
                "images": (
                    "COMFY_AUTOGROW_V3",
                    {"template": {"input": {"required": {"image": ("IMAGE", {})}}}},
                )
            }
        },
        ("IMAGE",),
    ),
    "Switch": (
        {
            "required": {
                "on": ("COMFY_MATCHTYPE_V3", {"template": {"allowed_types": "*"}}),
                "which": ("BOOLEAN", {}),
            }
        },
        ("COMFY_MATCHTYPE_V3",),
    ),
    "SaveImage": ({"required": {"images": ("IMAGE",), "prefix": ("STRING", {"default": "c"})}}, ()),
}


class NodeTable(NodeTypes):
    """Some of ComfyUI's classes, shortened, and one whose INPUT_TYPES raises."""

    def __init__(self) -> None:
        self._specs = {
            name: declared(name, inputs, outputs, output_node=name == "SaveImage")
            for name, (inputs, outputs) in _TABLE.items()
        }

    def node(self, class_type: str) -> NodeSpec | None:
        if class_type == "Broken":
            raise OSError(2, "No such file or directory", "/mnt/gone/list.json")
        return self._specs.get(class_type)


def names() -> list[str]:
    return list(_TABLE)


def node(
    key: Any, kind: str, values: Any = None, *, mode: int = 0, outputs: str = "", **links: int | None
) -> dict[str, Any]:
    """Return a node as the editor saves it. `links`: {input: id of its link}; `outputs`: types, in order."""
    return {
        "id": key,
        "type": kind,
        "mode": mode,
        "inputs": [
            {"name": name.replace("__", "."), "type": "*", "link": link} for name, link in links.items()
        ],
        "outputs": [{"name": kind, "type": kind} for kind in outputs.split()],
        "properties": {},
        **({} if values is None else {"widgets_values": values}),
    }


def file(*nodes: dict[str, Any], links: list[Any] | None = None, **more: Any) -> dict[str, Any]:
    """Return a file as the editor saves it; a link is [id, from node, output, to node, input, type]."""
    return {"version": 0.4, "nodes": list(nodes), "links": [[*link, "*"] for link in links or []], **more}


def subgraph(
    key: str, *nodes: dict[str, Any], links: list[list[Any]], inputs: str = "", outputs: str = ""
) -> dict[str, Any]:
    """Return a definition of a subgraph: links come from -10 for an input, and go to -20 for an output."""
    fields = ("id", "origin_id", "origin_slot", "target_id", "target_slot")
    rows: list[dict[str, Any]] = [dict(zip(fields, link, strict=True)) for link in links]

    def slots(words: str, end: str, slot: str, node_id: int) -> list[dict[str, Any]]:
        return [
            {
                "name": name,
                "type": "*",
                "linkIds": [r["id"] for r in rows if (r[end], r[slot]) == (node_id, i)],
            }
            for i, name in enumerate(words.split())
        ]

    return {
        "id": key,
        "name": key,
        "nodes": list(nodes),
        "links": rows,
        "inputs": slots(inputs, "origin_id", "origin_slot", -10),
        "outputs": slots(outputs, "target_id", "target_slot", -20),
    }


def read(data: Any) -> Workflow:
    """Read this as a workflow, with the classes of the table."""
    return parse(json.dumps(data), NodeTable())


def typed(made: dict[str, Any], **kinds: str) -> dict[str, Any]:
    """The node with types at its inputs."""
    for port in made["inputs"]:
        port["type"] = kinds.get(port["name"], port["type"])
    return made
