"""A workflow -> the prompts of its warm-up: what runs, what is turned off, what has no effect."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar

import pytest

from comfy_preload.core.node_types import NodeSpec, NodeTypes, declared
from comfy_preload.core.planning.sizes import Prompt
from comfy_preload.core.planning.warm_up import SINK, Prepared, partner_nodes, prepare, uploads
from comfy_preload.core.settings.schema import WorkflowEntry
from comfy_preload.core.workflow.reader import parse

_INT = ("INT", {"default": 1})
_SIZE = {"width": _INT, "height": _INT}


class Pack(NodeTypes):
    """Classes as ComfyUI and packs declare them: (required inputs, outputs, output node, partner node)."""

    _table: ClassVar[Mapping[str, tuple[dict[str, Any], tuple[str, ...], bool]]] = {
        "Loader": ({"file": (["m.safetensors"],)}, ("MODEL", "VAE"), False),
        "EmptyLatentImage": ({**_SIZE, "batch_size": _INT}, ("LATENT",), False),
        "WanImageToVideo": (
            {"vae": ("VAE",), **_SIZE, "length": _INT, "batch_size": _INT},
            ("CONDITIONING", "LATENT"),
            False,
        ),
        "Effi Loader": (
            {
                "ckpt": (["m.safetensors"],),
                "empty_latent_width": _INT,
                "empty_latent_height": _INT,
                "batch_size": _INT,
            },
            ("MODEL", "LATENT"),
            False,
        ),
        "LatentUpscale": ({"samples": ("LATENT",), **_SIZE}, ("LATENT",), False),
        "PrimitiveInt": ({"value": _INT}, ("INT",), False),
        "Plus": ({"a": _INT, "b": _INT}, ("INT",), False),
        "KSampler Adv. (Efficient)": (
            {
                "model": ("MODEL",),
                "latent": ("LATENT",),
                "steps": _INT,
                "preview_method": (["auto", "none"],),
            },
            ("LATENT", "IMAGE"),
            True,
        ),
        "pipe sampler": (
            {
                "pipe": ("PIPE_LINE",),
                "image_output": (["Hide", "Preview", "Save", "Hide/Save"],),
                "save_prefix": ("STRING", {}),
            },
            ("PIPE_LINE", "IMAGE"),
            True,
        ),
        "Pipe": ({"model": ("MODEL",)}, ("PIPE_LINE",), False),
        "Decode": ({"samples": ("LATENT",), "vae": ("VAE",)}, ("IMAGE",), False),
        "SaveImage": ({"images": ("IMAGE",)}, (), True),
        "SaveModel": ({"model": ("MODEL",)}, (), True),
        "SaveAndPass": ({"images": ("IMAGE",)}, ("IMAGE", "STRING"), True),
        "Combine": (
            {"images": ("IMAGE",), "save_output": ("BOOLEAN", {"default": True})},
            ("FILENAMES",),
            True,
        ),
        "Names": ({"names": ("FILENAMES",)}, (), True),
        "LoadImage": ({"image": (["a.png"], {"image_upload": True})}, ("IMAGE",), False),
        "LoadSound": ({"audio": (["a.wav"], {"audio_upload": True})}, ("AUDIO",), False),
        "Partner": ({"prompt": ("STRING", {})}, ("IMAGE",), False),
    }

    def node(self, class_type: str) -> NodeSpec | None:
        found = self._table.get(class_type)
        if found is None:
            return None
        required, outputs, ends = found
        api = class_type == "Partner"
        return declared(class_type, {"required": required}, outputs, output_node=ends, api_node=api)


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


LOADER = node("Loader", file="m.safetensors")
LATENT = node("EmptyLatentImage", width=512, height=512, batch_size=1)
SAMPLER = node("KSampler Adv. (Efficient)", model=["1", 0], latent=["2", 0], steps=20, preview_method="auto")
PIPE_SAMPLER = node("pipe sampler", pipe=["2", 0], image_output="Save", save_prefix="x")


def prepared(prompt: Prompt, **given: Any) -> Prepared:
    entry = WorkflowEntry.model_validate({"path": "w.json", "warmup": True, **given})
    return prepare(parse(json.dumps(prompt), Pack()), entry, Pack(), "w.json")


def run(prompt: Prompt, **given: Any) -> Prompt:
    found = prepared(prompt, **given)
    assert () == found.problems
    return found.runs[0].prompt


def test_sampler_at_the_end() -> None:
    """A sampler that is an output node runs, though nobody uses what it gives; its preview is off."""
    made = run({"1": LOADER, "2": LATENT, "3": SAMPLER})

    assert {"1", "2", "3"} == made.keys()
    assert {**SAMPLER["inputs"], "preview_method": "none"} == made["3"]["inputs"]


def test_sampler_before_a_saver() -> None:
    """It runs where its picture is saved too, and the saver is a sink."""
    made = run({"1": LOADER, "2": LATENT, "3": SAMPLER, "4": node("SaveImage", images=["3", 1])})

    assert "KSampler Adv. (Efficient)" == made["3"]["class_type"]
    assert {"class_type": SINK, "inputs": {"any0": ["3", 1]}} == made["4"]


def test_sampler_that_saves() -> None:
    """A sampler that saves by a widget of its own samples and does not save."""
    made = run({"1": LOADER, "2": node("Pipe", model=["1", 0]), "3": PIPE_SAMPLER})

    assert ("Hide", "x") == (made["3"]["inputs"]["image_output"], made["3"]["inputs"]["save_prefix"])


@pytest.mark.parametrize("kind", ["SaveImage", "SaveAndPass", "Combine"])
def test_saver(kind: str) -> None:
    """What only saves or shows is cut off."""
    made = run({"1": node("LoadImage", image="a.png"), "2": node(kind, images=["1", 0])})

    assert {"class_type": SINK, "inputs": {"any0": ["1", 0]}} == made["2"]


def test_saver_of_models() -> None:
    """A node without outputs only saves, whatever it takes."""
    assert SINK == run({"1": LOADER, "2": node("SaveModel", model=["1", 0])})["2"]["class_type"]


def test_savers_in_a_row() -> None:
    """Those who use a saver's output get what it was given."""
    made = run(
        {
            "1": node("LoadImage", image="a.png"),
            "2": node("SaveAndPass", images=["1", 0]),
            "3": node("SaveAndPass", images=["2", 0]),
            "4": node("SaveImage", images=["3", 0]),
        }
    )

    assert [["1", 0]] * 3 == [made[i]["inputs"]["any0"] for i in "234"]


def test_saver_that_is_needed() -> None:
    """A saver whose names of files are used stays, with saving turned off where it can be."""
    made = run(
        {
            "1": node("LoadImage", image="a.png"),
            "2": node("Combine", images=["1", 0], save_output=True),
            "3": node("Names", names=["2", 0]),
        }
    )

    assert {"images": ["1", 0], "save_output": False} == made["2"]["inputs"]


def test_unused_nodes_are_left_out() -> None:
    """What no output node needs is not sent: its inputs may be anything."""
    assert {"1", "2"} == run(
        {"1": node("LoadImage", image="a.png"), "2": node("SaveImage", images=["1", 0]), "9": LOADER}
    ).keys()


# -- sizes and overrides ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("made", "size"),
    [
        pytest.param(LATENT, ("width", "height", "batch_size"), id="latent"),
        pytest.param(
            node("WanImageToVideo", vae=["1", 1], width=832, height=480, length=81, batch_size=1),
            ("width", "height", "batch_size"),
            id="video",
        ),
        pytest.param(
            node(
                "Effi Loader", ckpt="m.safetensors", empty_latent_width=5, empty_latent_height=5, batch_size=1
            ),
            ("empty_latent_width", "empty_latent_height", "batch_size"),
            id="prefix",
        ),
    ],
)
def test_shape(made: dict[str, Any], size: tuple[str, ...]) -> None:
    """Set wherever a latent of a size is made, whatever the class is called."""
    out = Pack().node(made["class_type"])
    assert out is not None
    sampler = node(
        "KSampler Adv. (Efficient)", model=["1", 0], latent=["2", out.outputs.index("LATENT")], steps=1
    )
    found = prepared({"1": LOADER, "2": made, "3": sampler}, shapes=[{"width": 64, "height": 96, "batch": 2}])
    (one,) = found.runs

    assert [64, 96, 2] == [one.prompt["2"]["inputs"][key] for key in size]
    assert ("64x96, batch 2", ()) == (one.shape, found.notes)


def test_shape_of_primitives() -> None:
    """A linked size is set where it comes from."""
    latent = node("EmptyLatentImage", width=["w", 0], height=["h", 0], batch_size=1)
    more = {
        "w": node("PrimitiveInt", value=512),
        "v": node("PrimitiveInt", value=["w", 0]),
        "h": node("PrimitiveInt", value=["v", 0]),
    }
    found = prepared({"1": LOADER, "2": latent, "3": SAMPLER, **more}, shapes=[{"width": 64}])

    assert (64, "64x64, batch 1", ()) == (
        found.runs[0].prompt["w"]["inputs"]["value"],
        found.runs[0].shape,
        found.notes,
    )


@pytest.mark.parametrize(
    "latent",
    [
        pytest.param(node("EmptyLatentImage", width=["p", 0], height=8, batch_size=1), id="computed"),
        pytest.param(node("LatentUpscale", samples=["0", 0], width=8, height=8), id="upscale"),
    ],
)
def test_shape_without_effect(latent: dict[str, Any]) -> None:
    """A size that finds no place is said."""
    prompt = {"0": {**LATENT, "inputs": {**LATENT["inputs"], "width": ["p", 0]}}, "p": node("Plus", a=1, b=2)}
    found = prepared({**prompt, "1": LOADER, "2": latent, "3": SAMPLER}, shapes=[{"width": 64}])

    assert ["shape_without_effect"] == [note.code for note in found.notes]


@pytest.mark.parametrize("key", ["KSampler Adv. (Efficient).steps", "3.steps"])
def test_override(key: str) -> None:
    """By class, whatever characters its name has, and by node."""
    assert 2 == run({"1": LOADER, "2": LATENT, "3": SAMPLER}, overrides={key: 2})["3"]["inputs"]["steps"]


def test_override_without_effect() -> None:
    """An override of what does not run is said."""
    found = prepared({"1": LOADER, "2": LATENT, "3": SAMPLER, "9": LATENT}, overrides={"9.width": 2})

    assert ["override_without_effect"] == [note.code for note in found.notes]


# -- what stands in the way ---------------------------------------------------------------------------------


def test_unknown_class_in_the_way() -> None:
    """A class that is not installed fails the warm-up only if the warm-up needs it."""
    way = {"1": node("Their Loader"), "2": LATENT, "3": SAMPLER}
    beside = {"1": LOADER, "2": LATENT, "3": SAMPLER, "9": node("Their Saver", x=["3", 1])}

    assert ["workflow_node_unknown"] == [p.code for p in prepared(way).problems]
    assert () == prepared(beside).problems


def test_nothing_to_run() -> None:
    """A workflow without an output node cannot be a warm-up."""
    assert ["workflow_without_output"] == [p.code for p in prepared({"1": LOADER}).problems]


def test_partner_nodes() -> None:
    """Nodes that run for a user who is logged in are known before they are run."""
    made = run({"1": node("Partner", prompt="x"), "2": node("SaveImage", images=["1", 0])})

    assert ("Partner",) == partner_nodes(made, Pack())


def test_uploads() -> None:
    """Files that a user uploads are known by their widgets."""
    made = run(
        {
            "1": node("LoadImage", image="a.png"),
            "2": node("LoadSound", audio="b.wav"),
            "3": node("Combine", images=["1", 0], save_output=True),
            "4": node("SaveImage", images=["2", 0]),
        }
    )

    assert {("1", "image", "image", "a.png"), ("2", "audio", "audio", "b.wav")} == {
        (one.node, one.input, one.kind, one.file) for one in uploads(made, Pack())
    }
