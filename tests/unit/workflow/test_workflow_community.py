"""Workflows as people have them: nodes of the editor only, groups, links of plugins, requests, images."""

from __future__ import annotations

from typing import Any

import pytest

from comfy_preload.core.workflow.loaders import loader_calls
from tests.support.node_table import NodeTable, file, node, read, typed

LOADER = node(1, "CheckpointLoaderSimple", ["a.ckpt"], outputs="MODEL CLIP VAE")
PROMPT = {"1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "a.ckpt"}}}


# -- classes that exist in the editor only ----------------------------------------------------------------


@pytest.mark.parametrize(
    "extra",
    [
        pytest.param(node(9, "Label (rgthree)"), id="label"),
        pytest.param(node(9, "Fast Bypasser (rgthree)", outputs="*", to=8), id="switch"),
        pytest.param(node(9, "easy showSomething", ["text"], outputs="STRING"), id="unused-output"),
    ],
)
def test_editor_only(extra: dict[str, Any]) -> None:
    """A node that cannot be part of the prompt costs nothing."""
    found = read(file(LOADER, extra, links=[[8, 1, 0, 9, 0]]))

    assert (PROMPT, ()) == (found.prompt, found.problems)


@pytest.mark.parametrize("kind", ["Reroute (rgthree)", "Cable Holder"])
@pytest.mark.parametrize("source", ["node", "primitive"])
def test_passed_through(kind: str, source: str) -> None:
    """One input and one output of one type, and no value: what is linked to it passes."""
    hop = typed(node(5, kind, outputs="*", **{"in": 8}), **{"in": "MODEL"})
    if source == "node":
        found = read(
            file(LOADER, hop, node(3, "KSampler", model=9), links=[[8, 1, 0, 5, 0], [9, 5, 0, 3, 0]])
        )
        assert ["1", 0] == found.prompt["3"]["inputs"]["model"]
    else:
        seed = node(1, "PrimitiveString", ["b.ckpt"], outputs="STRING")
        loader = node(3, "CheckpointLoaderSimple", ["a.ckpt"], ckpt_name=9)
        found = read(file(seed, hop, loader, links=[[8, 1, 0, 5, 0], [9, 5, 0, 3, 0]]))
        assert ["1", 0] == found.prompt["3"]["inputs"]["ckpt_name"]
    assert () == found.problems


def test_passed_through_a_row() -> None:
    """Several in a row, and a ring of them, end."""
    hops = [typed(node(i, "Dot", outputs="*", x=i), x="MODEL") for i in (5, 6)]
    found = read(
        file(
            LOADER,
            *hops,
            node(3, "KSampler", model=9),
            links=[[5, 1, 0, 5, 0], [6, 5, 0, 6, 0], [9, 6, 0, 3, 0]],
        )
    )
    ring = read(
        file(*hops, node(3, "KSampler", model=9), links=[[5, 6, 0, 5, 0], [6, 5, 0, 6, 0], [9, 6, 0, 3, 0]])
    )

    assert ["1", 0] == found.prompt["3"]["inputs"]["model"]
    assert "model" not in ring.prompt["3"]["inputs"]


def test_not_passed_through() -> None:
    """A node with a value of its own does something: what hangs on it is named, and others are used."""
    lora = typed(node(5, "Their LoRA", ["l.sft"], outputs="MODEL", model=8), model="MODEL")
    found = read(file(LOADER, lora, node(3, "KSampler", model=9), links=[[8, 1, 0, 5, 0], [9, 5, 0, 3, 0]]))

    assert ["workflow_node_unknown"] == [p.code for p in found.problems]
    assert {"model": found.problems[0]} == found.lost["3"]
    assert ["1"] == [call.node_id for call in loader_calls(found, NodeTable()).calls]
    assert [("5", ("l.sft",))] == [
        (left.node_id, left.files) for left in loader_calls(found, NodeTable()).left
    ]


@pytest.mark.parametrize(
    ("setter", "getter"),
    [("SetNode", "GetNode"), ("easy setNode", "easy getNode"), ("Set Node (other)", "Get Node (other)")],
)
def test_set_and_get(setter: str, getter: str) -> None:
    """What a plugin's nodes set is got by its own nodes, at any distance."""
    nodes = [
        LOADER,
        node(5, setter, ["m"], x=8),
        node(6, getter, ["m"], outputs="MODEL"),
        node(3, "KSampler", model=9),
    ]
    found = read(file(*nodes, links=[[8, 1, 0, 5, 0], [9, 6, 0, 3, 0]]))

    assert (["1", 0], ()) == (found.prompt["3"]["inputs"]["model"], found.problems)


# -- loaders that nothing uses ------------------------------------------------------------------------------


def used(*links: list[Any]) -> dict[str, Any]:
    """Two loaders, one sampler, one saver."""
    return file(
        LOADER,
        node(2, "UNETLoader", ["a.sft", "fp8"], outputs="MODEL"),
        node(3, "KSampler", model=7, outputs="LATENT"),
        node(4, "SaveImage", ["x"], images=8),
        links=[[8, 3, 0, 4, 0], *links],
    )


def test_unused_loader() -> None:
    """A loader from which no output node is reached is not loaded, and that is said."""
    found = loader_calls(read(used([7, 1, 0, 3, 0])), NodeTable())

    assert ["1"] == [call.node_id for call in found.calls]
    assert [("2", "workflow_node_unused", ("a.sft",))] == [
        (one.node_id, one.problem.code, one.files) for one in found.left
    ]


def test_used_through_an_unknown_node() -> None:
    """Unknown nodes that may be part of the prompt count as a way; those that only switch do not."""
    data = used([7, 5, 0, 3, 0], [9, 1, 0, 5, 0], [10, 2, 0, 6, 0])
    data["nodes"] += [
        typed(node(5, "Their Patch", [1], outputs="MODEL", model=9), model="MODEL"),
        node(6, "Their Switch", outputs="*", any=10),
    ]

    assert ["1"] == [call.node_id for call in loader_calls(read(data), NodeTable()).calls]


def test_unknown_saver() -> None:
    """A saver of a plugin that is not installed may be the end of all."""
    data = file(LOADER, typed(node(4, "Their Saver", images=8), images="IMAGE"), links=[[8, 1, 0, 4, 0]])

    assert ["1"] == [call.node_id for call in loader_calls(read(data), NodeTable()).calls]


# -- use everywhere -----------------------------------------------------------------------------------------


# -- group nodes --------------------------------------------------------------------------------------------


# -- what is around a workflow ------------------------------------------------------------------------------
