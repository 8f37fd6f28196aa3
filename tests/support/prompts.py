"""The prompts that tests send: graphs in API format."""

from __future__ import annotations

from typing import Any

Prompt = dict[str, dict[str, Any]]


def image(
    *,
    unet: str = "tiny.safetensors",
    clip: str = "clip_l.safetensors",
    vae: str | None = None,
    lora: str | None = None,
    seed: int = 0,
    clip_device: str | None = None,
    text: str = "a lighthouse",
    negative: str = "",
) -> Prompt:
    """Text to image, 64x64, one step, tiny SD3. Ends in a saved latent or, with a VAE, a preview image.

    `clip_device` is CLIPLoader's optional input: the front end always sends it, programs leave it out.
    """
    model = ["lora", 0] if lora else ["unet", 0]
    prompt: Prompt = {
        "unet": _node("UNETLoader", unet_name=unet, weight_dtype="default"),
        "clip": _node(
            "CLIPLoader", clip_name=clip, type="sd3", **({"device": clip_device} if clip_device else {})
        ),
        "positive": _node("CLIPTextEncode", clip=["clip", 0], text=text),
        "negative": _node("CLIPTextEncode", clip=["clip", 0], text=negative),
        "latent": _node("EmptySD3LatentImage", width=64, height=64, batch_size=1),
        "sampler": _sampler(
            model=model, positive="positive", negative="negative", latent="latent", seed=seed
        ),
    }
    if lora:
        prompt["lora"] = _node("LoraLoaderModelOnly", model=["unet", 0], lora_name=lora, strength_model=1.0)
    if vae:
        prompt["vae"] = _node("VAELoader", vae_name=vae)
        prompt["decode"] = _node("VAEDecode", samples=["sampler", 0], vae=["vae", 0])
        prompt["preview"] = _node("PreviewImage", images=["decode", 0])
    else:
        prompt["save"] = _node("SaveLatent", samples=["sampler", 0], filename_prefix="tests")
    return prompt


def checkpoint_image(
    *, checkpoint: str, seed: int = 0, text: str = "a lighthouse", negative: str = ""
) -> Prompt:
    """Text to image, 64x64 px, one step, from one whole checkpoint of the SD1.5 kind."""
    return {
        "checkpoint": _node("CheckpointLoaderSimple", ckpt_name=checkpoint),
        "positive": _node("CLIPTextEncode", clip=["checkpoint", 1], text=text),
        "negative": _node("CLIPTextEncode", clip=["checkpoint", 1], text=negative),
        "latent": _node("EmptyLatentImage", width=64, height=64, batch_size=1),
        "sampler": _sampler(
            model=["checkpoint", 0], positive="positive", negative="negative", latent="latent", seed=seed
        ),
        "decode": _node("VAEDecode", samples=["sampler", 0], vae=["checkpoint", 2]),
        "preview": _node("PreviewImage", images=["decode", 0]),
    }


def parts_image(*, file: str, seed: int = 0, text: str = "a lighthouse", negative: str = "") -> Prompt:
    """The same, from three files of one name: UNet, text encoder, VAE."""
    prompt = checkpoint_image(checkpoint=file, seed=seed, text=text, negative=negative)
    del prompt["checkpoint"]
    prompt["unet"] = _node("UNETLoader", unet_name=file, weight_dtype="default")
    prompt["clip"] = _node("CLIPLoader", clip_name=file, type="stable_diffusion")
    prompt["vae"] = _node("VAELoader", vae_name=file)
    prompt["positive"]["inputs"]["clip"] = prompt["negative"]["inputs"]["clip"] = ["clip", 0]
    prompt["sampler"]["inputs"]["model"] = ["unet", 0]
    prompt["decode"]["inputs"]["vae"] = ["vae", 0]
    return prompt


def load(loader: str, *, into: str = "any", output: int = 0, **inputs: Any) -> Prompt:
    """Run one loader node; the Sink (tests/support/custom_nodes) reports what it returned."""
    return {"loader": _node(loader, **inputs), "sink": _node("Sink", **{into: ["loader", output]})}


def unrelated(color: int = 0) -> Prompt:
    """A workflow without models; after it, the executor no longer caches the loaders' outputs."""
    return {
        "empty": _node("EmptyImage", width=64, height=64, batch_size=1, color=color),
        "preview": _node("PreviewImage", images=["empty", 0]),
    }


def _node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def _sampler(*, model: list[Any], positive: str, negative: str, latent: str, seed: int) -> dict[str, Any]:
    return _node(
        "KSampler",
        model=model,
        positive=[positive, 0],
        negative=[negative, 0],
        latent_image=[latent, 0],
        seed=seed,
        steps=1,
        cfg=2.0,
        sampler_name="euler",
        scheduler="normal",
        denoise=1.0,
    )
