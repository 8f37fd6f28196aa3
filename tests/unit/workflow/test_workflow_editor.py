"""What the editor saves becomes the prompt that the editor sends."""

from __future__ import annotations

import json
from typing import Any

import pytest

from comfy_preload.core.workflow.reader import parse
from tests.support.node_table import NodeTable, file, node, subgraph

LOADER = node(1, "CheckpointLoaderSimple", ["a.ckpt"], outputs="MODEL CLIP VAE")


def prompt(
    *nodes: dict[str, Any], links: list[Any] | None = None, subgraphs: list[Any] | None = None
) -> dict[str, Any]:
    """{node: its inputs}, of a file that has no problem."""
    found = parse(
        json.dumps(file(*nodes, links=links, definitions={"subgraphs": subgraphs or []})), NodeTable()
    )
    assert () == found.problems
    return {name: dict(made["inputs"]) for name, made in found.prompt.items()}


@pytest.mark.parametrize("version", [0.4, 1])
def test_links(version: float) -> None:
    """Links are arrays (schema 0.4) or objects (schema 1)."""
    data = file(LOADER, node(2, "CLIPTextEncode", ["cat"], clip=7), links=[[7, 1, 1, 2, 1]])
    data["version"] = version
    if version == 1:
        data["links"] = [
            {"id": 7, "origin_id": 1, "origin_slot": 1, "target_id": 2, "target_slot": 1, "type": "CLIP"}
        ]
    found = parse(json.dumps(data), NodeTable())

    assert {"text": "cat", "clip": ["1", 1]} == found.prompt["2"]["inputs"]


def test_muted() -> None:
    """A muted node is not sent, nor are links from it."""
    assert {"2": {"text": "x"}} == prompt(
        {**LOADER, "mode": 2}, node(2, "CLIPTextEncode", ["x"], clip=7), links=[[7, 1, 1, 2, 1]]
    )


def test_bypassed() -> None:
    """A bypassed node hands on its input of the same type."""
    lora = node(2, "LoraLoaderModelOnly", ["l.sft", 1], mode=4, outputs="MODEL", model=7)
    made = prompt(LOADER, lora, node(3, "KSampler", model=8), links=[[7, 1, 0, 2, 0], [8, 2, 0, 3, 0]])

    assert ["1", 0] == made["3"]["model"]
    assert "2" not in made


def test_bypassed_without_match() -> None:
    """A bypassed loader has nothing to hand on."""
    made = prompt({**LOADER, "mode": 4}, node(2, "CLIPTextEncode", ["x"], clip=7), links=[[7, 1, 1, 2, 1]])

    assert {"2": {"text": "x"}} == made


def test_reroute() -> None:
    """Reroutes are seen through."""
    reroutes = [node(i, "Reroute", outputs="*", **{"": i}) for i in (2, 3)]
    links = [[2, 1, 1, 2, 0], [3, 2, 0, 3, 0], [4, 3, 0, 5, 1]]

    assert ["1", 1] == prompt(LOADER, *reroutes, node(5, "CLIPTextEncode", ["x"], clip=4), links=links)["5"][
        "clip"
    ]


def test_set_and_get() -> None:
    """SetNode and GetNode of one name are one link."""
    links = [[2, 1, 1, 2, 0], [3, 3, 0, 5, 1]]
    nodes = [node(2, "SetNode", ["name"], CLIP=2), node(3, "GetNode", ["name"], outputs="CLIP")]

    assert ["1", 1] == prompt(LOADER, *nodes, node(5, "CLIPTextEncode", ["x"], clip=3), links=links)["5"][
        "clip"
    ]


def test_notes() -> None:
    """Notes are for people."""
    assert {} == prompt(node(1, "Note", ["a.ckpt"]), node(2, "MarkdownNote", ["b.ckpt"]))


def test_primitive() -> None:
    """A primitive's value goes into the widget it is linked to, and is sent as that widget sends it."""
    made = prompt(
        node(1, "PrimitiveNode", ["b.ckpt", "fixed"], outputs="COMBO"),
        node(2, "CheckpointLoaderSimple", ["a.ckpt"], ckpt_name=7),
        node(3, "PrimitiveNode", ["{one|two}"], outputs="STRING"),
        node(4, "CLIPTextEncode", ["x"], text=8),
        links=[[7, 1, 0, 2, 0], [8, 3, 0, 4, 0]],
    )

    assert {"2": {"ckpt_name": "b.ckpt"}, "4": {"text": "one"}} == made


def test_primitive_behind_reroute() -> None:
    """A primitive does not reach a widget through a reroute: the editor sends the widget's own value."""
    made = prompt(
        node(1, "PrimitiveNode", ["b.ckpt"], outputs="COMBO"),
        node(2, "Reroute", outputs="*", **{"": 6}),
        node(3, "CheckpointLoaderSimple", ["a.ckpt"], ckpt_name=7),
        links=[[6, 1, 0, 2, 0], [7, 2, 0, 3, 0]],
    )

    assert {"3": {"ckpt_name": "a.ckpt"}} == made


def test_converted_widget() -> None:
    """A widget that was made an input sends the link; its place among the values stays."""
    sampler = node(2, "KSampler", [1, "fixed", 5, 2.5], steps=7)
    made = prompt(node(1, "OldSeed", [3, "fixed", 4]), sampler, links=[[7, 1, 0, 2, 2]])

    assert {"seed": 1, "steps": ["1", 0], "cfg": 2.5} == made["2"]


def test_old_names() -> None:
    """Classes that the editor renames are renamed."""
    found = parse(json.dumps(file(node(1, "T2IAdapterLoader"))), NodeTable())

    assert "ControlNetLoader" == found.foreign["1"].type


def test_autogrow() -> None:
    """Inputs that grow with their links are taken from the file."""
    links = [[7, 1, 0, 2, 0], [8, 1, 0, 2, 1]]
    made = prompt(
        node(1, "LoadImage", ["p.png", "image", 3]),
        node(2, "Batch", images__image0=7, images__image1=8),
        links=links,
    )

    assert {"images.image0": ["1", 0], "images.image1": ["1", 0]} == made["2"]


def test_match_type() -> None:
    """An input that takes any type is bridged like another."""
    switch = node(2, "Switch", [True], mode=4, outputs="*", on=7)
    made = prompt(
        LOADER, switch, node(3, "CLIPTextEncode", ["x"], clip=8), links=[[7, 1, 1, 2, 0], [8, 2, 0, 3, 1]]
    )

    assert ["1", 1] == made["3"]["clip"]


ENCODER = subgraph(
    "enc",
    node(5, "CLIPTextEncode", ["inside"], text=1, clip=2),
    links=[[1, -10, 0, 5, 0], [2, -10, 1, 5, 1], [3, 5, 0, -20, 0]],
    inputs="text clip",
    outputs="out",
)


def test_subgraph() -> None:
    """Nodes inside are named by their path, and linked to what is outside."""
    host = node(9, "enc", ["outside"], outputs="CONDITIONING", clip=7)
    made = prompt(
        LOADER,
        host,
        node(10, "KSampler", positive=8),
        links=[[7, 1, 1, 9, 1], [8, 9, 0, 10, 1]],
        subgraphs=[ENCODER],
    )

    assert {"text": "outside", "clip": ["1", 1]} == made["9:5"]
    assert ["9:5", 0] == made["10"]["positive"]


def test_subgraph_default() -> None:
    """Without a value outside, the one inside counts."""
    assert {"text": "inside"} == prompt(node(9, "enc"), subgraphs=[ENCODER])["9:5"]


def test_subgraph_twice() -> None:
    """Two nodes of one subgraph have values of their own."""
    made = prompt(node(8, "enc", ["one"]), node(9, "enc", ["two"]), subgraphs=[ENCODER])

    assert ("one", "two") == (made["8:5"]["text"], made["9:5"]["text"])


def test_subgraph_input_linked() -> None:
    """A link to a subgraph's input counts more than its widget."""
    made = prompt(
        node(1, "PrimitiveString", ["s"]),
        node(9, "enc", ["x"], text=7),
        links=[[7, 1, 0, 9, 0]],
        subgraphs=[ENCODER],
    )

    assert ["1", 0] == made["9:5"]["text"]


@pytest.mark.parametrize(
    ("proxies", "text"),
    [
        pytest.param([["-1", "text"]], "outside", id="own-input"),
        pytest.param([["5", "text"]], "outside", id="widget-inside"),
        pytest.param('[["5", "text"]]', "outside", id="as-text"),
        pytest.param([["77", "text"]], "outside", id="node-gone"),
        pytest.param("{", "outside", id="no-json"),
        pytest.param([5, []], "outside", id="no-pairs"),
    ],
)
def test_proxy_of_input(proxies: Any, text: str) -> None:
    """A list of promoted widgets may name the input or the widget behind it; a broken one is passed over."""
    host = {**node(9, "enc", ["outside"]), "properties": {"proxyWidgets": proxies}}

    assert text == prompt(host, subgraphs=[ENCODER])["9:5"]["text"]


def test_proxy_of_widget() -> None:
    """A promoted widget without an input: the value outside is the widget's."""
    plain = subgraph("p", node(5, "KSampler", [1, "fixed", 2, 3]), links=[])
    host = {**node(9, "p", [None, 8]), "properties": {"proxyWidgets": [["5", "cfg"], ["5", "steps"]]}}

    assert {"seed": 1, "steps": 8, "cfg": 3} == prompt(host, subgraphs=[plain])["9:5"]


def test_nested_subgraphs() -> None:
    """A widget promoted through two subgraphs, and a link through both."""
    outer = subgraph(
        "outer",
        node(6, "enc", ["between"], outputs="CONDITIONING", text=1, clip=2),
        links=[[1, -10, 1, 6, 0], [2, -10, 0, 6, 1], [3, 6, 0, -20, 0]],
        inputs="clip words",
        outputs="out",
    )
    host = node(9, "outer", ["outside"], outputs="CONDITIONING", clip=7)
    links = [[7, 1, 1, 9, 0], [8, 9, 0, 10, 1]]
    made = prompt(LOADER, host, node(10, "KSampler", positive=8), links=links, subgraphs=[ENCODER, outer])

    assert {"text": "outside", "clip": ["1", 1]} == made["9:6:5"]
    assert ["9:6:5", 0] == made["10"]["positive"]


def test_definitions_in_definitions() -> None:
    """A definition may stand within another one."""
    outer = {**subgraph("outer", node(6, "enc", ["deep"]), links=[]), "definitions": {"subgraphs": [ENCODER]}}

    assert {"9:6:5": {"text": "deep"}} == prompt(node(9, "outer"), subgraphs=[outer])


def test_pass_through() -> None:
    """A subgraph may hand an input straight to an output."""
    through = subgraph("t", links=[[1, -10, 0, -20, 0]], inputs="clip", outputs="clip")
    host = node(9, "t", outputs="CLIP", clip=7)
    made = prompt(
        LOADER,
        host,
        node(3, "CLIPTextEncode", ["x"], clip=8),
        links=[[7, 1, 1, 9, 0], [8, 9, 0, 3, 1]],
        subgraphs=[through],
    )

    assert ["1", 1] == made["3"]["clip"]


@pytest.mark.parametrize("mode", [2, 4])
def test_subgraph_off(mode: int) -> None:
    """Nothing inside a muted or bypassed subgraph is sent."""
    assert {} == prompt(node(9, "enc", ["x"], mode=mode), subgraphs=[ENCODER])
