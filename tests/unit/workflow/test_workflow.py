"""A workflow file becomes a prompt; only a file that is not workflow at all raises."""

from __future__ import annotations

import json
from typing import Any

import pytest

from comfy_preload.core.errors import PreloadError
from comfy_preload.core.workflow import reader as workflow
from comfy_preload.core.workflow.reader import MAX_BYTES, MAX_PROBLEMS, Workflow, parse
from comfy_preload.core.workflow.subgraphs import MAX_NODES
from tests.support.node_table import NodeTable, file, node, read, subgraph

CHECKPOINT = {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "a.ckpt"}}
ENCODE = {"class_type": "CLIPTextEncode", "inputs": {"text": "cat", "clip": ["1", 1]}}


def codes(found: Workflow) -> list[str]:
    return [p.code for p in found.problems]


@pytest.mark.parametrize("around", [None, {}, {"client_id": "x"}], ids=["alone", "wrapped", "posted"])
def test_api_format(around: dict[str, Any] | None) -> None:
    """A prompt is taken as it is, alone or as it is posted."""
    prompt = {"1": CHECKPOINT, "2": ENCODE}

    found = read(prompt if around is None else {"prompt": prompt, **around})

    assert (prompt, ()) == (found.prompt, found.problems)


def test_api_bytes() -> None:
    """A file is bytes, and may begin with a byte order mark."""
    assert {"1": CHECKPOINT} == parse(
        b"\xef\xbb\xbf" + json.dumps({"1": CHECKPOINT}).encode(), NodeTable()
    ).prompt


def test_api_title() -> None:
    """What ComfyUI ignores in a node is left out, and a link's node is named by text."""
    found = read({"1": {**CHECKPOINT, "_meta": {"title": "x"}}, "2": {**ENCODE, "inputs": {"clip": [1, 1]}}})

    assert {
        "1": CHECKPOINT,
        "2": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1]}},
    } == found.prompt


def test_nan() -> None:
    """What is not JSON but stands in such files is null."""
    assert parse('{"1": {"class_type": "KSampler", "inputs": {"cfg": NaN}}}', NodeTable()).prompt["1"][
        "inputs"
    ] == {"cfg": None}


@pytest.mark.parametrize(
    ("text", "code"),
    [
        pytest.param("", "workflow_syntax", id="empty"),
        pytest.param("{", "workflow_syntax", id="cut-off"),
        pytest.param(b"\xff\xfe\x00", "workflow_syntax", id="binary"),
        pytest.param(b"\x89PNG\r\n", "workflow_syntax", id="image"),
        pytest.param('{"a": ' + "9" * 5000 + "}", "workflow_syntax", id="huge-number"),
        pytest.param("[]", "workflow_unknown_format", id="list"),
        pytest.param("null", "workflow_unknown_format", id="null"),
        pytest.param('"text"', "workflow_unknown_format", id="text"),
        pytest.param("{}", "workflow_unknown_format", id="nothing"),
        pytest.param('{"nodes": 5, "links": []}', "workflow_unknown_format", id="nodes-number"),
        pytest.param('{"prompt": {"nodes": 5}}', "workflow_unknown_format", id="wrapped-nothing"),
        pytest.param('{"models": [], "name": "x"}', "workflow_unknown_format", id="other-json"),
        pytest.param("[" * 100_000, "workflow_too_large", id="deep-list"),
        pytest.param('{"nodes":' * 100_000, "workflow_too_large", id="deep-object"),
    ],
)
def test_no_workflow(text: str | bytes, code: str) -> None:
    """A file that is not workflow is reported as a whole."""
    with pytest.raises(PreloadError) as caught:
        parse(text, NodeTable())

    assert code == caught.value.problem.code


def test_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Size is looked at before anything else is."""
    monkeypatch.setattr(workflow.json, "loads", None)
    with pytest.raises(PreloadError) as caught:
        parse(b" " * (MAX_BYTES + 1), NodeTable())

    assert "workflow_too_large" == caught.value.problem.code


def test_nesting_bomb() -> None:
    """Subgraphs that multiply are stopped before they fill the memory."""
    levels = [subgraph(f"s{i}", *(node(k, f"s{i + 1}") for k in range(30)), links=[]) for i in range(10)]
    with pytest.raises(PreloadError) as caught:
        read(file(node(1, "s0"), definitions={"subgraphs": levels}))

    assert str(MAX_NODES) in caught.value.problem.message


def test_unknown_class() -> None:
    """A node of a class that is not installed costs the links to it.

    The plugin is reported if the file has it.
    """
    strange = {**node(1, "IPAdapter", outputs="MODEL"), "properties": {"cnr_id": "comfyui_ipadapter"}}
    found = read(file(strange, node(2, "KSampler", [1, "fixed", 5, 2.5], model=7), links=[[7, 1, 0, 2, 0]]))

    assert {"2": {"class_type": "KSampler", "inputs": {"seed": 1, "steps": 5, "cfg": 2.5}}} == found.prompt
    assert ["workflow_node_unknown"] == codes(found)
    assert "comfyui_ipadapter" in found.problems[0].hint


def test_unknown_class_in_subgraph() -> None:
    """The values outside that belong to a missing node are not taken for those of others."""
    strange = node(1, "Odd", strength=1)
    strange["inputs"][0]["widget"] = {"name": "strength"}
    loader = node(2, "CheckpointLoaderSimple", ["a.ckpt"], ckpt_name=2)
    inner = subgraph(
        "s", strange, loader, links=[[1, -10, 0, 1, 0], [2, -10, 1, 2, 0]], inputs="strength name"
    )
    found = read(file(node(9, "s", [0.5, "b.ckpt"]), definitions={"subgraphs": [inner]}))

    assert {
        "9:2": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "b.ckpt"}}
    } == found.prompt


@pytest.mark.parametrize("key", ["aux_id", "cnr_id"])
def test_unknown_class_origin(key: str) -> None:
    """A repository is as good as a registry id."""
    strange = {**node(1, "Odd", [1], outputs="MODEL"), "properties": {key: "ann/odd-nodes"}}
    found = read(file(strange, node(2, "KSampler", model=7), links=[[7, 1, 0, 2, 0]]))

    assert "ann/odd-nodes" in found.problems[0].hint


def test_unknown_class_api() -> None:
    """The same in a prompt."""
    found = read(
        {"1": {"class_type": "Odd", "inputs": {}}, "2": {**ENCODE, "inputs": {"text": "x", "clip": ["1", 0]}}}
    )

    assert ({"2": {"class_type": "CLIPTextEncode", "inputs": {"text": "x"}}}, ["workflow_node_unknown"]) == (
        found.prompt,
        codes(found),
    )


def test_broken_class() -> None:
    """A class whose INPUT_TYPES() raises costs its nodes, and its message no path."""
    found = read(file(node(1, "Broken"), node(2, "CheckpointLoaderSimple", ["b.ckpt"])))

    assert ["2"] == list(found.prompt)
    assert ["load_failed"] == codes(found)
    assert "/mnt" not in str(found.problems)


@pytest.mark.parametrize(
    "bad", [None, 5, "x", [], {}, {"inputs": {}}, {"class_type": 5}, {"class_type": "KSampler", "inputs": 5}]
)
def test_bad_node_api(bad: Any) -> None:
    """What is not a node costs itself."""
    found = read({"1": CHECKPOINT, "2": bad})

    assert ({"1": CHECKPOINT}, ["workflow_node_invalid"]) == (found.prompt, codes(found))


@pytest.mark.parametrize("bad", [None, 5, "x", [], {}, {"id": 3}, {"type": "KSampler"}, {"id": 3, "type": 5}])
def test_bad_node_editor(bad: Any) -> None:
    """The same among the nodes of the editor's format."""
    found = read(file(node(1, "CheckpointLoaderSimple", ["a.ckpt"]), bad))

    assert ({"1": CHECKPOINT}, ["workflow_node_invalid"]) == (found.prompt, codes(found))


@pytest.mark.parametrize(
    "link", [[], [[7, 99, 0, 2, 0]], [[7, 1]], [None], [[7, 1, "x", 2, 0]], [[7, 1, -1, 2, 0]]]
)
def test_link_to_nothing(link: list[Any]) -> None:
    """A link that leads nowhere costs that input."""
    data = {
        **file(node(1, "CheckpointLoaderSimple"), node(2, "CLIPTextEncode", ["cat"], clip=7)),
        "links": link,
    }
    found = read(data)

    assert {"text": "cat"} == found.prompt["2"]["inputs"]
    assert ["workflow_link_missing"] == codes(found)


def test_link_to_nothing_api() -> None:
    """The same in a prompt."""
    assert ["workflow_link_missing"] == codes(read({"2": ENCODE}))


def test_cycle() -> None:
    """Nodes that wait for themselves are left out, with what hangs on them; others stay."""
    loop = {"class_type": "LoraLoaderModelOnly", "inputs": {"model": ["3", 0]}}
    behind = {"class_type": "KSampler", "inputs": {"model": ["3", 0]}}
    found = read({"1": CHECKPOINT, "2": loop, "3": {**loop, "inputs": {"model": ["2", 0]}}, "4": behind})

    assert ({"1": CHECKPOINT}, ["workflow_cycle"] * 3) == (found.prompt, codes(found))


def test_cycle_of_reroutes() -> None:
    """Reroutes in a circle lead nowhere."""
    data = file(
        node(1, "Reroute", **{"": 5}, outputs="*"),
        node(2, "Reroute", **{"": 6}, outputs="*"),
        node(3, "CLIPTextEncode", ["cat"], clip=7),
        links=[[5, 2, 0, 1, 0], [6, 1, 0, 2, 0], [7, 1, 0, 3, 1]],
    )
    found = read(data)

    assert ({"text": "cat"}, ["workflow_cycle"]) == (found.prompt["3"]["inputs"], codes(found))


def test_subgraph_in_itself() -> None:
    """A subgraph that contains itself is laid out once."""
    inner = subgraph("s", node(1, "CheckpointLoaderSimple", ["a.ckpt"]), node(2, "s"), links=[])
    found = read(file(node(9, "s"), definitions={"subgraphs": [inner]}))

    assert (["9:1"], ["workflow_cycle"]) == (list(found.prompt), codes(found))


def test_newer_schema() -> None:
    """A file from a newer editor is read as far as it goes."""
    found = read({**file(node(1, "CheckpointLoaderSimple", ["a.ckpt"])), "version": 2})

    assert ({"1": CHECKPOINT}, ["workflow_version"]) == (found.prompt, codes(found))


def test_problems_are_counted() -> None:
    """A broken file does not fill the log."""
    assert MAX_PROBLEMS == len(read(file(*(node(i, "CLIPTextEncode", clip=i) for i in range(500)))).problems)


def test_large_file() -> None:
    """As many nodes as are accepted take seconds, reroutes one after another included."""
    chain = [node(i, "Reroute", **{"": i}, outputs="*") for i in range(1, 5000)]
    users = [node(i, "CLIPTextEncode", ["x"], clip=i) for i in range(5000, 10_000)]
    links = [[i, i - 1, 0, i, 0] for i in range(1, 5000)] + [[i, 50, 0, i, 1] for i in range(5000, 10_000)]

    assert 5000 == len(read(file(*chain, *users, links=links)).prompt)
