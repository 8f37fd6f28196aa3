"""Entries become complete loader calls."""

from __future__ import annotations

from dataclasses import replace

import pytest

from comfy_preload.core.host import GraphNode
from comfy_preload.core.planning.plan import build
from comfy_preload.core.settings.document import parse
from comfy_preload.core.settings.validation import validate
from tests.support.catalogue import Catalogue, call, planned


@pytest.mark.parametrize(
    ("text", "inputs", "files"),
    [
        pytest.param(
            "checkpoint: sd15.safetensors",
            {"ckpt_name": "sd15.safetensors"},
            ["checkpoints"],
            id="checkpoint",
        ),
        pytest.param(
            "unet: flux1-dev.safetensors",
            {"unet_name": "flux1-dev.safetensors", "weight_dtype": "default"},
            ["diffusion_models"],
            id="default-filled-in",
        ),
        pytest.param(
            "{unet: flux1-dev.safetensors, weight_dtype: fp8_e5m2}",
            {"unet_name": "flux1-dev.safetensors", "weight_dtype": "fp8_e5m2"},
            ["diffusion_models"],
            id="default-replaced",
        ),
        pytest.param(
            "{clip: clip_l.safetensors, type: sd3}",
            {"clip_name": "clip_l.safetensors", "type": "sd3"},
            ["text_encoders"],
            id="optional-input-left-out",
        ),
        pytest.param(
            "{clip: [clip_l.safetensors, t5xxl_fp16.safetensors], type: flux}",
            {"clip_name1": "clip_l.safetensors", "clip_name2": "t5xxl_fp16.safetensors", "type": "flux"},
            ["text_encoders", "text_encoders"],
            id="two-files",
        ),
        pytest.param("vae: pixel_space", {"vae_name": "pixel_space"}, [], id="no-file"),
    ],
)
def test_call(text: str, inputs: dict[str, object], files: list[str]) -> None:
    """A good entry becomes a call with every required input, and its files."""
    found = call(text)

    assert found.target is not None
    assert (inputs, files, ()) == (found.target.inputs, [f.folder for f in found.files], found.problems)


def test_entry_is_kept() -> None:
    """A call is its entry's: name, importance, device and line."""
    found = call("{vae: ae.safetensors, name: x, required: false, device: ram}")

    assert ("x", "vae", "VAELoader", False, "ram", 2) == (
        found.name,
        found.entry.kind,
        found.entry.loader,
        found.entry.required,
        found.entry.device,
        found.entry.line,
    )


def test_order() -> None:
    """Calls keep the order of importance."""
    text = "  - vae: taesd\n  - checkpoint: sd15.safetensors\n  - vae: ae.safetensors\n"

    assert ["taesd", "sd15", "ae"] == [c.name for c in planned(text).calls]


def test_node_of_a_call() -> None:
    """An entry of `models:` stands for the one node of a prompt.

    One of a workflow for that workflow's node.
    """
    given = GraphNode("7", {"7": {"class_type": "VAELoader", "inputs": {}}, "8": {}})
    [entry] = validate(parse("models: [{vae: taesd}]")).entries
    alone, own = (build([one], Catalogue()).calls[0].target for one in (entry, replace(entry, node=given)))

    assert alone is not None
    assert own is not None
    assert {"1": {"class_type": "VAELoader", "inputs": {"vae_name": "taesd"}}} == alone.node.prompt
    assert given == own.node


@pytest.mark.parametrize("in_workflow", [False, True])
def test_loader_that_is_never_the_same(*, in_workflow: bool) -> None:
    """What ComfyUI runs in every prompt cannot be handed out; a workflow that has it is not failed for it."""
    [entry] = validate(
        parse("models: [{loader: RandomLoader, inputs: {ckpt_name: sd15.safetensors}}]")
    ).entries
    [found] = build([replace(entry, node=GraphNode("3", {}) if in_workflow else None)], Catalogue()).calls

    assert (["loader_changes"], None) == ([p.code for p in found.problems], found.target)
    assert found.entry.required is not in_workflow
