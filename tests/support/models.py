"""Write tiny models: files that ComfyUI detects and loads in well under a second each.

Every function writes one model and returns its path; two seeds give two different files of the same shape.
Shapes were taken from the modules ComfyUI builds for them (0.3.75 and 0.33.0 agree).
"""

from __future__ import annotations

from pathlib import Path

from . import safetensors_file
from .safetensors_file import Shapes


def tiny_unet(path: Path, seed: int = 0) -> Path:
    """SD3 MMDiT of depth 1, 1.6 MB, for UNETLoader."""
    return safetensors_file.write(path, _sd3(), seed=seed)


def sd3_unet(path: Path, depth: int, seed: int = 0) -> Path:
    """SD3 MMDiT, 64 wide for every block: 295 kB x depth cubed, so 0.5 GB at 12, 4 GB at 24.

    Not rewritten if it exists.
    """
    shapes = _sd3(depth)
    if path.exists() and path.stat().st_size == safetensors_file.size(shapes):
        return path
    return safetensors_file.write(path, shapes, seed=seed)


def tiny_checkpoint(path: Path, seed: int = 0) -> Path:
    """The same as a checkpoint, for CheckpointLoaderSimple: MODEL works, CLIP is None, VAE is not usable."""
    shapes = {f"model.diffusion_model.{name}": shape for name, shape in _sd3().items()}
    return safetensors_file.write(path, shapes, seed=seed)


def tiny_clip(path: Path, seed: int = 0) -> Path:
    """CLIP-L for CLIPLoader: 246 MB, fixed by ComfyUI. All but two tensors are zeros: 9.4 MB on disk.

    ComfyUI would also load a file of those two tensors alone, but leaves the others uninitialised, and images
    may be NaN.
    """
    shapes = _clip_l()
    return safetensors_file.write(path, shapes, seed=seed, zeros=shapes.keys() - _CLIP_L_FILLED)


def tiny_vae(path: Path, seed: int = 0) -> Path:
    """Wan 2.1 VAE of width 4, 0.5 MB, for VAELoader."""
    return safetensors_file.write(path, _wan_vae(4), seed=seed)


def tiny_taesd(vae_approx: Path, name: str = "taesd", seed: int = 0) -> tuple[Path, Path]:
    """Encoder and decoder of a tiny VAE, 2.4 MB each (taesd, taesdxl: 4 channels; taesd3, taef1: 16).

    `taesd3` decodes what the tiny SD3 samples.
    """
    channels = 16 if name in {"taesd3", "taef1"} else 4
    encoder = safetensors_file.write(
        vae_approx / f"{name}_encoder.safetensors", _taesd_encoder(channels), seed=seed
    )
    decoder = safetensors_file.write(
        vae_approx / f"{name}_decoder.safetensors", _taesd_decoder(channels), seed=seed + 1
    )
    return encoder, decoder


def tiny_lora(path: Path, seed: int = 0) -> Path:
    """A LoRA of rank 4 on one layer of the tiny SD3, for LoraLoaderModelOnly."""
    layer = "diffusion_model.joint_blocks.0.x_block.mlp.fc1"
    shapes: Shapes = {f"{layer}.lora_A.weight": (4, 64), f"{layer}.lora_B.weight": (256, 4)}
    return safetensors_file.write(path, shapes, seed=seed)


def tiny_upscaler(path: Path, seed: int = 0) -> Path:
    """Compact ESRGAN that doubles the size, 14 kB, for UpscaleModelLoader."""
    wide = 16
    shapes = {
        **_linear("body.0", wide, 3, 3, 3),
        "body.1.weight": (wide,),
        **_linear("body.2", wide, wide, 3, 3),
    }
    return safetensors_file.write(
        path, {**shapes, "body.3.weight": (wide,), **_linear("body.4", 12, wide, 3, 3)}, seed=seed
    )


def _linear(name: str, out: int, into: int, *kernel: int) -> Shapes:
    return {f"{name}.weight": (out, into, *kernel), f"{name}.bias": (out,)}


def _sd3(depth: int = 1) -> Shapes:
    width = 64 * depth
    shapes: Shapes = {
        "pos_embed": (1, 4096, width),
        **_linear("x_embedder.proj", width, 16, 2, 2),
        **_linear("t_embedder.mlp.0", width, 256),
        **_linear("t_embedder.mlp.2", width, width),
        **_linear("y_embedder.mlp.0", width, 2048),
        **_linear("y_embedder.mlp.2", width, width),
        **_linear("context_embedder", width, 4096),
        **_linear("final_layer.linear", 64, width),
        **_linear("final_layer.adaLN_modulation.1", 2 * width, width),
    }
    for number in range(depth):
        block = f"joint_blocks.{number}"
        if number < depth - 1:  # the last block does not use the text stream
            shapes |= _sd3_stream(f"{block}.context_block", width)
        else:
            shapes |= _linear(f"{block}.context_block.attn.qkv", 3 * width, width)
            shapes |= _linear(f"{block}.context_block.adaLN_modulation.1", 2 * width, width)
        shapes |= _sd3_stream(f"{block}.x_block", width)
    return shapes


def _sd3_stream(name: str, width: int) -> Shapes:
    return {
        **_linear(f"{name}.attn.qkv", 3 * width, width),
        **_linear(f"{name}.attn.proj", width, width),
        **_linear(f"{name}.mlp.fc1", 4 * width, width),
        **_linear(f"{name}.mlp.fc2", width, 4 * width),
        **_linear(f"{name}.adaLN_modulation.1", 6 * width, width),
    }


# The layers by which ComfyUI distinguishes CLIP-L from larger models.
_CLIP_L_FILLED = {f"text_model.encoder.layers.{layer}.mlp.fc1.weight" for layer in (0, 1)}


def _clip_l() -> Shapes:
    width = 768
    shapes: Shapes = {
        "text_model.embeddings.token_embedding.weight": (49408, width),
        "text_model.embeddings.position_embedding.weight": (77, width),
        "text_model.final_layer_norm.weight": (width,),
        "text_model.final_layer_norm.bias": (width,),
        "text_projection.weight": (width, width),
    }
    for number in range(12):
        layer = f"text_model.encoder.layers.{number}"
        for projection in ("q_proj", "k_proj", "v_proj", "out_proj"):
            shapes |= _linear(f"{layer}.self_attn.{projection}", width, width)
        for norm in ("layer_norm1", "layer_norm2"):
            shapes |= {f"{layer}.{norm}.weight": (width,), f"{layer}.{norm}.bias": (width,)}
        shapes |= _linear(f"{layer}.mlp.fc1", 4 * width, width)
        shapes |= _linear(f"{layer}.mlp.fc2", width, 4 * width)
    return shapes


def _wan_vae(dim: int) -> Shapes:
    wide = 4 * dim
    encoder = [
        _residual(dim, dim),
        _residual(dim, dim),
        _resample(dim, dim),
        _residual(dim, 2 * dim),
        _residual(2 * dim, 2 * dim),
        _resample(2 * dim, 2 * dim, time=2 * dim),
        _residual(2 * dim, wide),
        _residual(wide, wide),
        _resample(wide, wide, time=wide),
        _residual(wide, wide),
        _residual(wide, wide),
    ]
    decoder = [
        *[_residual(wide, wide)] * 3,
        _resample(wide, wide // 2, time=2 * wide),
        _residual(wide // 2, wide),
        *[_residual(wide, wide)] * 2,
        _resample(wide, wide // 2, time=2 * wide),
        *[_residual(2 * dim, 2 * dim)] * 3,
        _resample(2 * dim, dim),
        *[_residual(dim, dim)] * 3,
    ]
    return {
        **_linear("encoder.conv1", dim, 3, 3, 3, 3),
        **_numbered("encoder.downsamples", encoder),
        **_numbered("encoder.middle", [_residual(wide, wide), _attention(wide), _residual(wide, wide)]),
        "encoder.head.0.gamma": (wide, 1, 1, 1),
        **_linear("encoder.head.2", 32, wide, 3, 3, 3),
        **_linear("conv1", 32, 32, 1, 1, 1),
        **_linear("conv2", 16, 16, 1, 1, 1),
        **_linear("decoder.conv1", wide, 16, 3, 3, 3),
        **_numbered("decoder.middle", [_residual(wide, wide), _attention(wide), _residual(wide, wide)]),
        **_numbered("decoder.upsamples", decoder),
        "decoder.head.0.gamma": (dim, 1, 1, 1),
        **_linear("decoder.head.2", 3, dim, 3, 3, 3),
    }


def _residual(into: int, out: int) -> Shapes:
    shapes: Shapes = {
        "residual.0.gamma": (into, 1, 1, 1),
        **_linear("residual.2", out, into, 3, 3, 3),
        "residual.3.gamma": (out, 1, 1, 1),
        **_linear("residual.6", out, out, 3, 3, 3),
    }
    return shapes if into == out else {**shapes, **_linear("shortcut", out, into, 1, 1, 1)}


def _resample(into: int, out: int, *, time: int = 0) -> Shapes:
    shapes = _linear("resample.1", out, into, 3, 3)
    return {**shapes, **_linear("time_conv", time, into, 3, 1, 1)} if time else shapes


def _attention(width: int) -> Shapes:
    return {
        "norm.gamma": (width, 1, 1),
        **_linear("to_qkv", 3 * width, width, 1, 1),
        **_linear("proj", width, width, 1, 1),
    }


def _numbered(prefix: str, layers: list[Shapes]) -> Shapes:
    return {
        f"{prefix}.{number}.{name}": shape
        for number, layer in enumerate(layers)
        for name, shape in layer.items()
    }


def _taesd_block() -> Shapes:
    return {
        **_linear("conv.0", 64, 64, 3, 3),
        **_linear("conv.2", 64, 64, 3, 3),
        **_linear("conv.4", 64, 64, 3, 3),
    }


def _taesd_encoder(channels: int) -> Shapes:
    halve: Shapes = {"weight": (64, 64, 3, 3)}
    shapes = {**_linear("0", 64, 3, 3, 3), **_numbered_at({1: _taesd_block()})}
    for first in (2, 6, 10):
        shapes |= _numbered_at({first: halve, **{first + step: _taesd_block() for step in (1, 2, 3)}})
    return {**shapes, **_linear("14", channels, 64, 3, 3)}


def _taesd_decoder(channels: int) -> Shapes:
    double: Shapes = {"weight": (64, 64, 3, 3)}
    shapes = _linear("1", 64, channels, 3, 3)
    for first in (3, 8, 13):  # three blocks, a doubling without weights, a convolution
        shapes |= _numbered_at({**{first + step: _taesd_block() for step in (0, 1, 2)}, first + 4: double})
    return {**shapes, **_numbered_at({18: _taesd_block()}), **_linear("19", 3, 64, 3, 3)}


def _numbered_at(layers: dict[int, Shapes]) -> Shapes:
    return {f"{number}.{name}": shape for number, layer in layers.items() for name, shape in layer.items()}
