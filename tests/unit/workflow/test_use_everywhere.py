"""Use Everywhere sends outputs to inputs without links."""

from __future__ import annotations

from typing import Any

import pytest

from comfy_preload.core.workflow.reader import Workflow
from tests.support.node_table import file, node, read, typed

LOADER = node(1, "CheckpointLoaderSimple", ["a.ckpt"], outputs="MODEL CLIP VAE")


def everywhere(rows: list[Any] | None, *more: dict[str, Any], kind: str = "Anything Everywhere") -> Workflow:
    nodes = [
        typed(node(2, "CLIPTextEncode", ["cat"], clip=None), clip="CLIP"),
        typed(node(3, "LoraLoaderModelOnly", ["l.sft", 1], model=None), model="MODEL"),
    ]
    extra = {} if rows is None else {"extra": {"ue_links": rows}}
    return read(file(LOADER, *nodes, node(9, kind, anything=8), *more, links=[[8, 1, 1, 9, 0]], **extra))


@pytest.mark.parametrize(
    "row",
    [
        {"downstream": 2, "downstream_slot": 0, "upstream": "1", "upstream_slot": 1},
        {"downstream": "2", "downstream_slot": 0, "upstream": 1, "upstream_slot": 1, "type": "CLIP"},
    ],
    ids=["number", "text"],
)
def test_ue_links(row: dict[str, Any]) -> None:
    """The file's list counts."""
    assert ["1", 1] == everywhere([row]).prompt["2"]["inputs"]["clip"]


def test_ue_by_type() -> None:
    """Without a list, what is linked to such a node goes to every input of the type that has no link."""
    found = everywhere(None)

    assert ["1", 1] == found.prompt["2"]["inputs"]["clip"]
    assert "model" not in found.prompt["3"]["inputs"]


@pytest.mark.parametrize(
    "rows",
    [[], [None], [{}], [{"downstream": 2, "downstream_slot": 5, "upstream": 1, "upstream_slot": 0}]],
    ids=["none", "null", "empty", "no-input"],
)
def test_ue_nothing(rows: list[Any]) -> None:
    """A list that says nothing draws nothing."""
    assert "clip" not in everywhere(rows).prompt["2"]["inputs"]


def test_prompts_everywhere() -> None:
    """By the name of the input: positive and negative."""
    texts = [
        node(i, "CLIPTextEncode", [word], outputs="CONDITIONING") for i, word in ((1, "good"), (2, "bad"))
    ]
    control = node(9, "Prompts Everywhere", a=7, b=8)
    sampler = typed(node(3, "KSampler", positive=None), positive="CONDITIONING")
    found = read(file(*texts, control, sampler, links=[[7, 1, 0, 9, 0], [8, 2, 0, 9, 1]]))

    assert ["1", 0] == found.prompt["3"]["inputs"]["positive"]
