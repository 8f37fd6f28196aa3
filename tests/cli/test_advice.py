"""Which tiny VAE decodes the same latents, judged by a header."""

from __future__ import annotations

import pytest

from comfy_preload.cli.advice import tiny_vaes
from comfy_preload.core.planning.safetensors import Header, Tensor

CONV = "decoder.conv_in.weight"


def header(*more: str, channels: int = 4, prefix: str = "") -> Header:
    names = {f"{prefix}{CONV}": (512, channels, 3, 3), **dict.fromkeys(more, (1,))}
    return Header(tuple(Tensor(name, "F16", shape, 0, 0) for name, shape in names.items()), None, 0)


@pytest.mark.parametrize(
    ("file", "made", "expected"),
    [
        pytest.param("vae-ft-mse.safetensors", header(), ("taesd", "taesdxl"), id="four-channels"),
        pytest.param("sdxl_vae.safetensors", header(), ("taesdxl",), id="xl-by-name"),
        pytest.param(
            "a.safetensors",
            header("cond_stage_model.x", prefix="first_stage_model."),
            ("taesd",),
            id="sd15-checkpoint",
        ),
        pytest.param(
            "a.safetensors",
            header("conditioner.x", prefix="first_stage_model."),
            ("taesdxl",),
            id="sdxl-checkpoint",
        ),
        pytest.param("vae.safetensors", header(channels=16), ("taesd3", "taef1"), id="sixteen-channels"),
        pytest.param("ae.safetensors", header(channels=16), ("taef1",), id="flux-by-name"),
        pytest.param("sd3_vae.safetensors", header(channels=16), ("taesd3",), id="sd3-by-name"),
        pytest.param(
            "all.safetensors",
            header("model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight", channels=16),
            ("taesd3",),
            id="sd3-checkpoint",
        ),
        pytest.param("vae.safetensors", header(channels=32), (), id="none-for-it"),
        pytest.param("unet.safetensors", Header((), None, 0), (), id="no-vae"),
    ],
)
def test_tiny_vaes(file: str, made: Header, expected: tuple[str, ...]) -> None:
    """By latent channels, then by the keys of a checkpoint, then by name."""
    assert expected == tiny_vaes(file, made)
