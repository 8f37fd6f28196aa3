"""Workflows as people have them: nodes of the editor only, groups, links of plugins, requests, images."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from comfy_preload.core.errors import PreloadError
from comfy_preload.core.workflow.embedded import text_of
from comfy_preload.core.workflow.files import files_of
from comfy_preload.core.workflow.loaders import loader_calls
from comfy_preload.core.workflow.reader import Workflow, parse
from tests.support.node_table import NodeTable, file, node

LOADER = node(1, "CheckpointLoaderSimple", ["a.ckpt"], outputs="MODEL CLIP VAE")
PROMPT = {"1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "a.ckpt"}}}


def read(data: Any) -> Workflow:
    return parse(json.dumps(data), NodeTable())


def typed(made: dict[str, Any], **kinds: str) -> dict[str, Any]:
    """The node with types at its inputs."""
    for port in made["inputs"]:
        port["type"] = kinds.get(port["name"], port["type"])
    return made


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


# -- group nodes --------------------------------------------------------------------------------------------

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


# -- what is around a workflow ------------------------------------------------------------------------------


AROUND: dict[str, Callable[[Any], Any]] = {
    "request": lambda w: {"input": {"workflow": w, "images": [{"name": "x"}]}},
    "workflow": lambda w: {"workflow": w},
    "text": lambda w: {"prompt": json.dumps(w), "client_id": "x"},
    "only-text": json.dumps,
    "both": lambda w: {"workflow": {"nodes": []}, "output": w},
    "posted": lambda w: {"prompt": w, "extra_data": {"extra_pnginfo": {"workflow": {"nodes": []}}}},
    "history": lambda w: {"0a1b": {"prompt": [0, "0a1b", w, {}, ["1"]], "outputs": {}}},
}


@pytest.mark.parametrize("name", AROUND)
def test_wrapped(name: str) -> None:
    """The body of a request, an entry of a history: the prompt in it is found."""
    assert PROMPT == read(AROUND[name](PROMPT)).prompt


@pytest.mark.parametrize("key", ["workflow", "input", "graph"])
def test_wrapped_editor(key: str) -> None:
    """The editor's format, too."""
    assert PROMPT == read({key: file(LOADER)}).prompt


def png(texts: dict[str, str], *, how: str = "tEXt") -> bytes:
    info = PngInfo()
    for name, text in texts.items():
        if how == "comf":
            info.add(b"comf", name.encode() + b"\0" + text.encode(), after_idat=True)
        else:
            add = info.add_itxt if how == "iTXt" else info.add_text
            add(name, text, zip=how != "tEXt")
    out = io.BytesIO()
    Image.new("RGB", (8, 8)).save(out, "PNG", pnginfo=info)
    return out.getvalue()


def webp(*texts: str) -> bytes:
    image = Image.new("RGB", (8, 8))
    exif = image.getexif()
    for tag, text in zip((0x110, 0x10F, 0x10E), texts, strict=False):
        exif[tag] = text
    out = io.BytesIO()
    image.save(out, "WEBP", exif=exif)
    return out.getvalue()


TEXT = json.dumps({"1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "a.ckpt"}}})


@pytest.mark.parametrize(
    "image",
    [
        *(pytest.param(png({"prompt": TEXT}, how=how), id=how) for how in ("tEXt", "zTXt", "iTXt", "comf")),
        pytest.param(png({"workflow": json.dumps(file(LOADER))}), id="editor"),
        pytest.param(png({"workflow": '{"nodes": []}', "prompt": TEXT}), id="both"),
        pytest.param(webp(f"prompt:{TEXT}", 'workflow:{"nodes": []}'), id="webp"),
        pytest.param(webp(f"Workflow: {json.dumps(file(LOADER))}"), id="webp-editor"),
    ],
)
def test_image(image: bytes) -> None:
    """Images that ComfyUI saved hold what made them."""
    assert PROMPT == parse(text_of(io.BytesIO(image)), NodeTable()).prompt


NO_WORKFLOWS = {
    "bare": png({}),
    "parameters": png({"parameters": "a cat, Steps: 20"}),
    "text": png({"prompt": "a cat"}),
    "bare-webp": webp(),
    "other-webp": webp("x:y"),
    "cut": png({})[:40],
    "cut-webp": b"RIFF\0\0\0\0WEBPEXIF\xff\0\0\0II",
}


@pytest.mark.parametrize("name", NO_WORKFLOWS)
def test_image_without_workflow(name: str) -> None:
    """Other images are no workflow."""
    with pytest.raises(PreloadError) as caught:
        text_of(io.BytesIO(NO_WORKFLOWS[name]))

    assert "workflow_unknown_format" == caught.value.problem.code


def test_no_image() -> None:
    """Everything else is read as it is."""
    assert b"{" == text_of(io.BytesIO(b"{"))
    assert TEXT.encode() == text_of(io.BytesIO(TEXT.encode()))
