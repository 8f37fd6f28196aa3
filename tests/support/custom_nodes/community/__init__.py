"""Nodes as community packs have them.

Loaders with optional inputs, settings, samplers that end a graph, partner nodes.

Runs inside ComfyUI. What loads or samples says so in the log, so a test can count.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import comfy.model_management as mm
import comfy.sd
import folder_paths

import nodes

log = logging.getLogger("community")
Inputs = dict[str, dict[str, Any]]
INT = ("INT", {"default": 1})


class _Node:
    CATEGORY = "tests"
    FUNCTION = "run"


class CommunityModelLoader(_Node):
    """Loads a model; takes settings, a list of LoRAs and another model, all optional."""

    RETURN_TYPES = ("MODEL",)

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        optional = {"swap": ("SWAPARGS",), "lora": ("COMMUNITYLORA",), "voice": ("VOICEMODEL",)}
        return {
            "required": {"model": (folder_paths.get_filename_list("diffusion_models"),)},
            "optional": optional,
        }

    def run(self, model: str, swap: Any = None, lora: Any = None, voice: Any = None) -> tuple[Any]:
        log.info("community: loads %s with %s, %s, %s", model, swap, lora, type(voice).__name__)
        path = folder_paths.get_full_path_or_raise("diffusion_models", model)
        return (comfy.sd.load_diffusion_model(path),)


class CommunitySwap(_Node):
    RETURN_TYPES = ("SWAPARGS",)

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"blocks": INT}}

    def run(self, blocks: int) -> tuple[dict[str, int]]:
        return ({"blocks": blocks},)


class CommunityLora(_Node):
    """A list of files and strengths: no model."""

    RETURN_TYPES = ("COMMUNITYLORA",)

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        files = (folder_paths.get_filename_list("loras"),)
        return {"required": {"lora": files}, "optional": {"before": ("COMMUNITYLORA",)}}

    def run(self, lora: str, before: Any = None) -> tuple[list[tuple[str, float]]]:
        return ([*(before or []), (lora, 1.0)],)


class CommunityFile(CommunityLora):
    """The same under a type that does not say LoRA: what it gives shows only when it has run."""

    RETURN_TYPES = ("COMMUNITYFILE",)


class CommunityVoiceLoader(_Node):
    RETURN_TYPES = ("VOICEMODEL",)

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"file": (folder_paths.get_filename_list("vae"),)}}

    def run(self, file: str) -> tuple[object]:
        log.info("community: loads voice %s", file)
        return (object(),)


class CommunitySampler(_Node):
    """Samples as it ends the graph, previews what it made, and saves it if a widget says so."""

    RETURN_TYPES = ("LATENT",)
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        conditioning = dict.fromkeys(("positive", "negative"), ("CONDITIONING",))
        outputs = (["Hide", "Preview", "Save"], {"default": "Preview"})
        latent = {"latent": ("LATENT",), "steps": INT, "image_output": outputs}
        return {"required": {"model": ("MODEL",), **conditioning, **latent}}

    def run(self, *, image_output: str, steps: int, latent: Any, **given: Any) -> dict[str, Any]:
        log.info("community: samples %d steps, %s", steps, image_output)
        (made,) = nodes.common_ksampler(
            given["model"], 0, steps, 1.0, "euler", "simple", given["positive"], given["negative"], latent
        )
        folder = (
            folder_paths.get_output_directory()
            if image_output == "Save"
            else folder_paths.get_temp_directory()
        )
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / "community.png").write_bytes(b"a picture")
        shown = {
            "filename": "community.png",
            "subfolder": "",
            "type": "output" if image_output == "Save" else "temp",
        }
        return {"ui": {"images": [shown]}, "result": (made,)}


class CommunityPartner(_Node):
    """Runs elsewhere, for a user who is logged in."""

    RETURN_TYPES = ("IMAGE",)
    API_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"text": ("STRING", {})}}

    def run(self, text: str) -> tuple[Any]:
        raise RuntimeError(f"Unauthorized: Please login first to use this node. ({text})")


class CommunityOldPartner(CommunityPartner):
    """The same, and only its error says so."""

    API_NODE = False


class CommunitySlow(_Node):
    """Works for a minute, and listens to ComfyUI's interrupt."""

    RETURN_TYPES = ("IMAGE",)

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"image": ("IMAGE",)}}

    def run(self, image: Any) -> tuple[Any]:
        for _ in range(600):
            mm.throw_exception_if_processing_interrupted()
            time.sleep(0.1)
        return (image,)


NODE_CLASS_MAPPINGS: dict[str, type] = {
    cls.__name__: cls
    for cls in (
        CommunityModelLoader,
        CommunitySwap,
        CommunityLora,
        CommunityFile,
        CommunityVoiceLoader,
        CommunitySampler,
        CommunityPartner,
        CommunityOldPartner,
        CommunitySlow,
    )
}
