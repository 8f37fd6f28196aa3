"""The ground the other tests stand on.

A plain ComfyUI, without the plugin, accepts the generated models and prompts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support import prompts
from tests.support.comfy import ComfyServer, PromptFailedError, ServerDiedError


@pytest.fixture(scope="module")
def plain(module_comfy: Callable[..., ComfyServer]) -> ComfyServer:
    """ComfyUI alone."""
    return module_comfy(plugin=False)


@pytest.mark.parametrize(
    ("loader", "inputs", "kind"),
    [
        pytest.param(
            "UNETLoader",
            {"unet_name": "tiny.safetensors", "weight_dtype": "default"},
            "ModelPatcher",
            id="unet",
        ),
        pytest.param(
            "CheckpointLoaderSimple", {"ckpt_name": "tiny.safetensors"}, "ModelPatcher", id="checkpoint"
        ),
        pytest.param("CLIPLoader", {"clip_name": "clip_l.safetensors", "type": "sd3"}, "CLIP", id="clip"),
        pytest.param("VAELoader", {"vae_name": "tiny.safetensors"}, "VAE", id="vae"),
        pytest.param("VAELoader", {"vae_name": "taesd"}, "VAE", id="taesd"),
    ],
)
def test_loads(plain: ComfyServer, loader: str, inputs: dict[str, Any], kind: str) -> None:
    """ComfyUI's own loader takes the generated file, and every weight is a number."""
    arrived = plain.sink(prompts.load(loader, **inputs))["any"]

    assert kind == arrived["type"]
    assert abs(arrived["weights"]) < float("inf")


def test_seeds_differ(plain: ComfyServer) -> None:
    """Two seeds are two models, so a test can see which of them was loaded."""
    tiny, other = (
        plain.sink(prompts.load("UNETLoader", unet_name=f"{name}.safetensors", weight_dtype="default"))["any"]
        for name in ("tiny", "other")
    )

    assert tiny["weights"] != other["weights"]


def test_prompt_runs_to_an_image(plain: ComfyServer) -> None:
    """The tiny models together make an image, also with a LoRA."""
    entry = plain.run(prompts.image(vae="taesd3", lora="tiny.safetensors"))

    assert 1 == len(entry["outputs"]["preview"]["images"])
    assert "invalid value encountered" not in plain.log  # what numpy says of an image with NaN


def test_another_workflow_loses_the_models(plain: ComfyServer) -> None:
    """The problem this plugin solves: after an unrelated workflow ComfyUI builds the model again."""
    prompt = prompts.load("UNETLoader", unet_name="tiny.safetensors", weight_dtype="fp8_e4m3fn")

    def built() -> int:
        plain.run(prompt)
        return plain.log.count("model_type FLOW")

    first = built()
    assert first == built()
    plain.run(prompts.unrelated())
    assert first + 1 == built()


def test_failed_prompt_names_the_reason(plain: ComfyServer) -> None:
    """A refused prompt raises with what ComfyUI said."""
    with pytest.raises(PromptFailedError, match="value_not_in_list"):
        plain.run(prompts.image(unet="missing.safetensors"))


def test_dead_server_shows_its_log(comfy: Callable[..., ComfyServer]) -> None:
    """A ComfyUI that cannot start is reported at once, with its last words."""
    with pytest.raises(ServerDiedError, match="unrecognized arguments: --no-such-flag"):
        comfy(plugin=False, args=["--no-such-flag"])
