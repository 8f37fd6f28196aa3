"""Loader calls, and the files that a workflow names."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfy_preload.core.errors import PreloadError
from comfy_preload.core.node_types import declared
from comfy_preload.core.workflow.files import files_of
from comfy_preload.core.workflow.loaders import Call, Loaders, is_loader, loader_calls
from comfy_preload.core.workflow.reader import parse
from tests.support.node_table import NodeTable, file, names, node, subgraph


def found_in(data: Any) -> Loaders:
    types = NodeTable()
    return loader_calls(parse(json.dumps(data), types), types)


def calls(data: Any) -> tuple[Call, ...]:
    return found_in(data).calls


@pytest.mark.parametrize(
    ("takes", "returns", "loader"),
    [
        pytest.param([], ["MODEL", "CLIP", "VAE"], True, id="checkpoint"),
        pytest.param([], ["CONTROL_NET"], True, id="controlnet"),
        pytest.param([], ["UPSCALE_MODEL"], True, id="upscaler"),
        pytest.param([], ["AUDIO_ENCODER"], True, id="audio"),
        pytest.param([], ["BACKGROUND_REMOVAL"], True, id="background"),
        pytest.param([], ["WANVIDEOMODEL"], True, id="plugin-model"),
        pytest.param([], ["WANVAE"], True, id="plugin-vae"),
        pytest.param(["MODEL"], ["MODEL"], False, id="lora"),
        pytest.param(["VAE"], ["MODEL"], False, id="takes-another-model"),
        pytest.param([], ["MODEL_TASK_ID"], False, id="task-id"),
        pytest.param([], ["CLIP_VISION_OUTPUT"], False, id="vision-output"),
        pytest.param([], ["IMAGE"], False, id="image"),
        pytest.param([], [], False, id="nothing"),
    ],
)
def test_is_loader(takes: list[str], returns: list[str], loader: bool) -> None:  # noqa: FBT001 — a column of the table
    """A loader returns a model and takes none."""
    inputs = {"required": {f"in{i}": (kind,) for i, kind in enumerate(takes)}}

    assert loader is is_loader(declared("L", inputs, returns))


def test_calls() -> None:
    """Only loaders are returned, with all their values."""
    data = file(
        node(1, "UNETLoader", ["a.sft", "fp8"]),
        node(2, "LoraLoaderModelOnly", ["l.sft", 1], model=7),
        node(3, "CheckpointLoaderSimple", ["b.ckpt"], mode=2),
        links=[[7, 1, 0, 2, 0]],
    )

    assert (Call("1", "UNETLoader", {"unet_name": "a.sft", "weight_dtype": "fp8"}),) == calls(data)


def test_value_from_a_node() -> None:
    """A node that only hands on a value is looked through, also behind a reroute and into a subgraph."""
    inner = subgraph(
        "s", node(5, "CheckpointLoaderSimple", ["x"], ckpt_name=1), links=[[1, -10, 0, 5, 0]], inputs="name"
    )
    data = file(
        node(1, "PrimitiveString", ["b.ckpt"]),
        node(2, "Reroute", outputs="*", **{"": 6}),
        node(9, "s", name=7),
        links=[[6, 1, 0, 2, 0], [7, 2, 0, 9, 0]],
        definitions={"subgraphs": [inner]},
    )

    assert (Call("9:5", "CheckpointLoaderSimple", {"ckpt_name": "b.ckpt"}),) == calls(data)


def test_value_from_nodes_in_a_row() -> None:
    """Several that hand on are one."""
    data = {
        "1": {"class_type": "PrimitiveString", "inputs": {"value": "a.ckpt"}},
        "2": {"class_type": "PrimitiveString", "inputs": {"value": ["1", 0]}},
        "3": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": ["2", 0]}},
    }

    assert {"ckpt_name": "a.ckpt"} == calls(data)[0].inputs


def test_value_computed() -> None:
    """A value that comes from a node which works on nothing but values: that node is run first."""
    data = file(
        node(1, "Shout", ["a", 2]),
        node(2, "UNETLoader", ["a.sft", "fp8"], unet_name=7),
        links=[[7, 1, 0, 2, 0]],
    )
    shout = {"class_type": "Shout", "inputs": {"text": "a", "times": 2}}

    assert (
        Call("2", "UNETLoader", {"weight_dtype": "fp8"}, {"unet_name": ("1", 0)}, {"1": shout}),
    ) == calls(data)


FILES = file(
    node(1, "Any", ["a.safetensors", 5, None]),
    node(2, "Any", {"x": "sub/b.GGUF", "deep": [{"y": "c.pt"}]}),
    node(3, "Any", ["muted.ckpt"], mode=2),
    node(4, "Any", ["bypassed.ckpt"], mode=4),
    node(5, "Note", ["noted.ckpt"]),
    node(6, "s", ["a.safetensors", "d.sft"]),
    node(7, "off", mode=2),
    node(8, "Any", ["https://x.org/web.ckpt", "a text\nthat ends in text.ckpt", "picture.png"]),
    definitions={
        "subgraphs": [
            subgraph("s", node(1, "Any", ["e.bin"]), links=[]),
            subgraph("off", node(1, "Any", ["inside-muted.ckpt"]), links=[]),
            subgraph("unused", node(1, "Any", ["unused.ckpt"]), links=[]),
        ]
    },
)


def test_files_editor() -> None:
    """Names of model files in nodes that run, whatever their classes."""
    assert ["a.safetensors", "c.pt", "d.sft", "e.bin", "sub/b.GGUF"] == sorted(files_of(json.dumps(FILES)))


def test_files_api() -> None:
    """The same in a prompt, in order."""
    data = {
        "1": {"class_type": "Any", "inputs": {"n": "b.ckpt", "m": "a.ckpt"}},
        "2": {"class_type": "L", "inputs": {"n": "b.ckpt"}},
    }

    assert ("b.ckpt", "a.ckpt") == files_of(json.dumps(data))


@pytest.mark.parametrize("text", ["", "[]", "{}", "[" * 100_000])
def test_files_of_no_workflow(text: str) -> None:
    """The same errors as in parsing."""
    with pytest.raises(PreloadError):
        files_of(text)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-30, 30)
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from([*names(), "Reroute", "s"]),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
SMALL = st.integers(-1, 6)
PORT = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["text", "clip", "ckpt_name", "x"]) | JSON,
        "type": JSON,
        "link": SMALL | JSON,
    },
)
NODE = st.fixed_dictionaries(
    {
        "id": SMALL,
        "type": st.sampled_from(
            [*names(), "Reroute", "PrimitiveNode", "GetNode", "SetNode", "Broken", *("s", "t") * 6]
        ),
    },
    optional={
        "mode": st.sampled_from([0, 2, 4]) | JSON,
        "inputs": st.lists(PORT, max_size=3) | JSON,
        "outputs": st.lists(PORT, max_size=2) | JSON,
        "widgets_values": st.lists(JSON, max_size=4) | JSON,
        "properties": st.fixed_dictionaries(
            {"proxyWidgets": st.lists(st.lists(SMALL | JSON, max_size=3), max_size=3) | JSON}
        )
        | JSON,
    },
)
LINK = st.lists(SMALL, min_size=5, max_size=6) | st.fixed_dictionaries(
    {
        key: st.sampled_from([-10, -20, 0, 1, 2]) | JSON
        for key in ("id", "origin_id", "origin_slot", "target_id", "target_slot")
    }
)
SLOT = st.fixed_dictionaries(
    {"name": st.sampled_from(["text", "clip"]) | JSON},
    optional={"linkIds": st.lists(SMALL, max_size=3) | JSON},
)
GRAPH = {"nodes": st.lists(NODE | JSON, max_size=5), "links": st.lists(LINK | JSON, max_size=6) | JSON}
SUBGRAPH = st.fixed_dictionaries(
    {**GRAPH, "id": st.sampled_from(["s", "t"])},
    optional={"inputs": st.lists(SLOT, max_size=2) | JSON, "outputs": st.lists(SLOT, max_size=2)},
)
FILE = st.fixed_dictionaries(
    {**GRAPH, "definitions": st.fixed_dictionaries({"subgraphs": st.lists(SUBGRAPH, max_size=2)}) | JSON},
    optional={"version": st.sampled_from([0.4, 1, 2]) | JSON},
)
API = st.dictionaries(
    st.sampled_from(["1", "2", "3"]),
    st.fixed_dictionaries(
        {"class_type": st.sampled_from(names()) | JSON},
        optional={
            "inputs": st.dictionaries(
                st.sampled_from(["model", "x"]), st.tuples(st.sampled_from(["1", "2", 3]), SMALL) | JSON
            )
            | JSON
        },
    )
    | JSON,
)


def everything(text: str | bytes) -> None:
    types = NodeTable()
    try:
        found = parse(text, types)
    except PreloadError:
        return
    for made in found.prompt.values():
        json.dumps(made)
        links = [
            v
            for v in made["inputs"].values()
            if isinstance(v, list) and len(v) == 2 and isinstance(v[0], str)
        ]
        assert all(link[0] in found.prompt for link in links if isinstance(link[1], int))
    for call in loader_calls(found, types).calls:
        assert call.inputs.keys() <= found.prompt[call.node_id]["inputs"].keys()
    for problem in found.problems:
        str(problem).encode()
    assert isinstance(files_of(text), tuple)


@given(JSON | FILE | API)
def test_any_json(data: Any) -> None:
    """Whatever JSON comes, nothing raises but PreloadError.

    No link leads out of the prompt, no message breaks a log.
    """
    everything(json.dumps(data))


@given(st.binary(max_size=200) | st.text(max_size=200))
def test_any_text(text: str | bytes) -> None:
    """Whatever text comes, nothing raises but PreloadError."""
    everything(text)
