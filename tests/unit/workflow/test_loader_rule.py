"""What is a loader in a workflow follows from what it does.

Classes as packs declare them, none of their names known.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar

import pytest

from comfy_preload.core.node_types import NodeSpec, NodeTypes, declared
from comfy_preload.core.workflow.loaders import Loaders, loader_calls
from comfy_preload.core.workflow.reader import parse

FILES = (["m.safetensors", "n.gguf"],)


class Pack(NodeTypes):
    """Shapes of classes that packs have: (required inputs, optional inputs, outputs, output node)."""

    _table: ClassVar[Mapping[str, tuple[dict[str, Any], dict[str, Any], tuple[str, ...], bool]]] = {
        "Video": (
            {"model": FILES},
            {"swap": ("SWAPARGS",), "lora": ("VIDLORA",), "voice": ("VOICEMODEL",)},
            ("VIDMODEL",),
            False,
        ),
        "Voice": ({"file": FILES}, {}, ("VOICEMODEL",), False),
        "Swap": ({"blocks": ("INT", {"default": 20})}, {}, ("SWAPARGS",), False),
        "LoraList": ({"lora": FILES}, {"prev": ("VIDLORA",)}, ("VIDLORA",), False),
        "ApplyLoras": ({"model": ("VIDMODEL",), "lora": ("VIDLORA",)}, {}, ("VIDMODEL",), False),
        "LoraNode": ({"model": ("MODEL",), "lora_name": FILES}, {}, ("MODEL",), False),
        "PowerLora": ({}, {"model": ("MODEL",), "lora_1": ("LORA",)}, ("MODEL",), False),
        "Full": (
            {"ckpt_name": FILES, "positive": ("STRING", {"multiline": True})},
            {"model_override": ("MODEL",)},
            ("PIPE", "MODEL", "LATENT"),
            False,
        ),
        "Checkpoint": ({"ckpt_name": FILES}, {}, ("MODEL", "CLIP", "VAE"), False),
        "Unified": ({"model": ("MODEL",), "preset": (["a", "b"],)}, {}, ("MODEL", "IPADAPTER"), False),
        "UnifiedLoader": ({"model": ("MODEL",), "preset": (["a", "b"],)}, {}, ("MODEL", "IPADAPTER"), False),
        "Adapter": ({"file": FILES}, {}, ("IPADAPTER",), False),
        "Detector": ({"model_name": (["bbox/face.pt"],)}, {}, ("BBOX_DETECTOR", "SEGM_DETECTOR"), False),
        "FaceLoader": ({"provider": (["CPU", "CUDA"],)}, {}, ("FACEANALYSIS",), False),
        "EvaClipLoader": ({}, {}, ("EVA_CLIP",), False),
        "Motion": ({"name": FILES}, {"lora": ("MOTION_LORA",)}, ("MOTION_MODEL_ADE",), False),
        "LoadPicture": ({"image": (["a.png"],)}, {}, ("IMAGE", "MASK", "INFO"), False),
        "Interpolate": ({"ckpt_name": FILES, "frames": ("IMAGE",)}, {}, ("IMAGE",), False),
        "Text": ({"text": ("STRING", {})}, {}, ("STRING",), False),
        "Join": ({"a": ("STRING", {}), "b": ("STRING", {})}, {}, ("STRING",), False),
        "Describe": ({"image": ("IMAGE",)}, {}, ("STRING",), False),
        "Unloader": ({"any": ("*",)}, {}, ("THING",), False),
        "Show": ({}, {f"x{i}": ("*",) for i in range(6)}, (), True),
    }

    def node(self, class_type: str) -> NodeSpec | None:
        found = self._table.get(class_type)
        if found is None:
            return None
        return declared(
            class_type, {"required": found[0], "optional": found[1]}, found[2], output_node=found[3]
        )


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def search(**prompt: dict[str, Any]) -> Loaders:
    """What is found where everything is shown."""
    shown = {f"x{i}": [name, 0] for i, name in enumerate(prompt)}
    return loader_calls(parse(json.dumps({**prompt, "show": node("Show", **shown)}), Pack()), Pack())


@pytest.mark.parametrize(
    "made",
    [
        pytest.param(node("Video", model="m.safetensors"), id="optional-model-inputs"),
        pytest.param(node("Full", ckpt_name="m.safetensors", positive="a cat"), id="gives-more-than-models"),
        pytest.param(node("Adapter", file="m.safetensors"), id="type-of-its-own"),
        pytest.param(node("Detector", model_name="bbox/face.pt"), id="detector"),
        pytest.param(node("FaceLoader", provider="CPU"), id="no-file"),
        pytest.param(node("EvaClipLoader"), id="no-input"),
        pytest.param(node("Motion", name="n.gguf"), id="motion"),
    ],
)
def test_loader(made: dict[str, Any]) -> None:
    """Each is called ahead, with its values."""
    (call,) = search(a=made).calls

    assert (made["class_type"], made["inputs"], {}) == (call.class_type, call.inputs, call.links)


@pytest.mark.parametrize(
    "made",
    [
        pytest.param(node("LoadPicture", image="a.png"), id="picture"),
        pytest.param(node("Text", text="a photo of m"), id="text"),
        pytest.param(node("Swap", blocks=5), id="settings"),
        pytest.param(node("Unloader"), id="unloader"),
    ],
)
def test_no_loader(made: dict[str, Any]) -> None:
    """None of these loads a model."""
    assert Loaders() == search(a=made)


@pytest.mark.parametrize(
    ("made", "code"),
    [
        pytest.param(node("LoraNode", model=["c", 0], lora_name="l.pt"), "loader_takes_model", id="lora"),
        pytest.param(
            node("PowerLora", model=["c", 0], lora_1={"on": True, "lora": "l.pt"}),
            "loader_takes_model",
            id="lora-optional-model",
        ),
        pytest.param(
            node("UnifiedLoader", model=["c", 0], preset="a"), "loader_takes_model", id="names-no-file"
        ),
        pytest.param(
            node("Full", ckpt_name="m.safetensors", positive="", model_override=["c", 0]),
            "loader_takes_model",
            id="override",
        ),
        pytest.param(
            node("Interpolate", ckpt_name="m.safetensors", frames=["p", 0]),
            "workflow_file_inside",
            id="inside",
        ),
        pytest.param(node("Text", text="m.safetensors"), "workflow_file_inside", id="name-only"),
        pytest.param(node("Checkpoint", ckpt_name=["d", 0]), "workflow_value_computed", id="computed"),
        pytest.param(node("LoraList", lora="l.pt"), "workflow_file_inside", id="list-of-loras"),
    ],
)  # fmt: skip
def test_left(made: dict[str, Any], code: str) -> None:
    """What cannot be called ahead is named, with the reason."""
    before = {
        "c": node("Checkpoint", ckpt_name="m.safetensors"),
        "p": node("LoadPicture", image="a.png"),
        "d": node("Describe", image=["p", 0]),
    }
    found = search(a=made, **before)

    assert [("a", made["class_type"], code)] == [
        (o.node_id, o.class_type, o.problem.code) for o in found.left
    ]
    assert ["c"] == [call.node_id for call in found.calls]


def test_fed() -> None:
    """Settings, lists of LoRAs and other models run before the loader that they are linked to."""
    found = search(
        a=node("Video", model="m.safetensors", swap=["s", 0], lora=["l", 0], voice=["v", 0]),
        s=node("Swap", blocks=5),
        k=node("LoraList", lora="k.safetensors"),
        l=node("LoraList", lora="l.safetensors", prev=["k", 0]),
        v=node("Voice", file="n.gguf"),
    )
    calls = {call.node_id: call for call in found.calls}

    assert ({"a", "v"}, ()) == (set(calls), found.left)
    assert {"swap": ("s", 0), "lora": ("l", 0), "voice": ("v", 0)} == calls["a"].links
    assert {"s", "k", "l", "v"} == calls["a"].feeds.keys()
    assert {"model": "m.safetensors"} == calls["a"].inputs


def test_fed_by_texts() -> None:
    """A name that other nodes put together."""
    (call,) = search(
        a=node("Checkpoint", ckpt_name=["j", 0]),
        j=node("Join", a=["t", 0], b=".ckpt"),
        t=node("Text", text="m"),
    ).calls

    assert ({"ckpt_name": ("j", 0)}, {"j", "t"}) == (call.links, call.feeds.keys())
