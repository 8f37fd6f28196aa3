"""Group nodes become the nodes in them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from comfy_preload.core.workflow.files import files_of
from comfy_preload.core.workflow.loaders import loader_calls
from tests.support.node_table import NodeTable, file, node, read, typed

LOADER = node(1, "CheckpointLoaderSimple", ["a.ckpt"], outputs="MODEL CLIP VAE")
PROMPT = {"1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "a.ckpt"}}}


GROUP = {
    "nodes": [
        {**node(0, "CheckpointLoaderSimple", ["a.ckpt"], outputs="MODEL CLIP VAE"), "index": 0},
        {**node(0, "CLIPTextEncode", ["inner"], outputs="CONDITIONING", clip=None), "index": 1},
        {
            **node(0, "KSampler", [1, "fixed", 5, 2.5], outputs="LATENT", model=None, positive=None),
            "index": 2,
        },
    ],
    "links": [[0, 1, 1, 0, 1, "CLIP"], [1, 0, 2, 1, 2, "CONDITIONING"]],
    "external": [[0, 0, "MODEL"]],
}


@pytest.mark.parametrize("kind", ["workflow>mine", "workflow/mine"])
def test_group(kind: str) -> None:
    """Nodes inside are named by their place, take the values outside, and are linked across the border."""
    outer = node(7, kind, ["b.ckpt", "outside", 9, "fixed", 6, 3.5], outputs="MODEL CLIP VAE LATENT", model=2)
    lora = node(8, "LoraLoaderModelOnly", ["l.sft", 1], outputs="MODEL", model=1)
    data = file(outer, lora, links=[[1, 7, 0, 8, 0], [2, 8, 0, 7, 0]], extra={"groupNodes": {"mine": GROUP}})
    found = read(data)

    assert () == found.problems
    assert {
        "7:0": {"ckpt_name": "b.ckpt"},
        "7:1": {"text": "outside", "clip": ["7:0", 1]},
        "7:2": {"seed": 9, "steps": 6, "cfg": 3.5, "model": ["8", 0], "positive": ["7:1", 0]},
        "8": {"lora_name": "l.sft", "strength_model": 1, "model": ["7:0", 0]},
    } == {name: made["inputs"] for name, made in found.prompt.items()}


def test_group_twice() -> None:
    """Two nodes of one group are two copies."""
    nodes = [node(i, "workflow>mine", [f"{name}.ckpt"]) for i, name in ((5, "a"), (6, "b"))]
    found = read(file(*nodes, extra={"groupNodes": {"mine": GROUP}}))

    assert {("5:0", "a.ckpt"), ("6:0", "b.ckpt")} == {
        (call.node_id, call.inputs["ckpt_name"]) for call in loader_calls(found, NodeTable()).calls
    }


def test_group_with_primitive_and_reroute() -> None:
    """A primitive inside shows its value outside, and a reroute shows an input of the type it carries."""
    group = {
        "nodes": [
            {**node(0, "PrimitiveNode", [3, "fixed"], outputs="INT"), "index": 0},
            {
                **node(0, "Reroute", outputs="*"),
                "index": 1,
                "inputs": [{"name": "", "type": "*", "link": None}],
            },
            {
                **typed(node(0, "KSampler", [1, "fixed", 5, 2.5], model=None, steps=None), model="MODEL"),
                "index": 2,
            },
        ],
        "links": [[0, 0, 2, 1, 0, "INT"], [1, 0, 2, 0, 1, "MODEL"]],
        "external": [],
    }
    group["nodes"][2]["inputs"][1]["widget"] = {"name": "steps"}
    outer = node(7, "workflow>g", [12, "fixed", 9, "fixed", 3.5], MODEL=1)
    found = read(file(LOADER, outer, links=[[1, 1, 0, 7, 0]], extra={"groupNodes": {"g": group}}))

    assert {"seed": 9, "steps": 12, "cfg": 3.5, "model": ["1", 0]} == found.prompt["7:2"]["inputs"]


@pytest.mark.parametrize(
    "group",
    [
        None,
        {},
        {"nodes": 5},
        {"nodes": [None, {}], "links": [[0, 0, 9, 9], None], "external": [5], "config": []},
    ],
)
def test_group_broken(group: Any) -> None:
    """A group that is none costs its nodes."""
    found = read(file(LOADER, node(7, "workflow>g", [1]), extra={"groupNodes": {"g": group}}))

    assert PROMPT == found.prompt


def test_group_files() -> None:
    """Reading ahead knows the files of groups before there are node classes."""
    data = file(node(7, "workflow>mine", ["b.ckpt"]), extra={"groupNodes": {"mine": GROUP}})

    assert {"a.ckpt", "b.ckpt"} == set(files_of(json.dumps(data)))
