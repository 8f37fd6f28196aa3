"""ComfyUI's own loader nodes: what each of them loads, from which folder. The one place that knows.

The short forms of preload.yaml, the prefetch, `check` and `capture` read it, because importing ComfyUI's node
classes would import torch. The gateway (gateway.js in the Helm chart) has a copy that a test compares.
Sources: nodes.py and comfy_extras/ of ComfyUI 0.3.64 to 0.33.0.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from comfy_preload.core.node_types import Value

SAFETENSORS = (".safetensors", ".sft")
PICKLES = (".ckpt", ".pt", ".pt2", ".pth", ".bin", ".pkl")
"""Endings under which ComfyUI opens a file as a pickle (`supported_pt_extensions`, folder_paths.py)."""
GGUF = ".gguf"
"""No loader of ComfyUI's own reads these; the loaders of all packs look in the folders of ComfyUI's own."""
MODEL_FILES = (*SAFETENSORS, *PICKLES, GGUF, ".onnx")
"""Endings of all model files; the last two are added by plugins."""


@dataclass(frozen=True)
class CoreLoader:
    """One node class."""

    name: str
    files: Mapping[str, str]
    """Its inputs that name a file, each with the folder that is searched for it."""
    kind: str = "loader"
    """The key of preload.yaml that stands for it; `loader` if there is no short form."""
    defaults: Mapping[str, Value] = field(default_factory=dict[str, Value])
    """Inputs that may be left out: with this value they mean the same, in every version of ComfyUI."""


def _clips(count: int) -> dict[str, str]:
    return {f"clip_name{number}": "text_encoders" for number in range(1, count + 1)}


LOADERS: tuple[CoreLoader, ...] = (
    CoreLoader("CheckpointLoaderSimple", {"ckpt_name": "checkpoints"}, "checkpoint"),
    CoreLoader("UNETLoader", {"unet_name": "diffusion_models"}, "unet", {"weight_dtype": "default"}),
    CoreLoader("CLIPLoader", {"clip_name": "text_encoders"}, "clip", {"device": "default"}),
    CoreLoader("DualCLIPLoader", _clips(2), "clip", {"device": "default"}),
    CoreLoader("TripleCLIPLoader", _clips(3), "clip"),
    CoreLoader("QuadrupleCLIPLoader", _clips(4), "clip"),
    CoreLoader("VAELoader", {"vae_name": "vae"}, "vae"),
    CoreLoader("CheckpointLoader", {"config_name": "configs", "ckpt_name": "checkpoints"}),
    CoreLoader("unCLIPCheckpointLoader", {"ckpt_name": "checkpoints"}),
    CoreLoader("ImageOnlyCheckpointLoader", {"ckpt_name": "checkpoints"}),
    CoreLoader("ControlNetLoader", {"control_net_name": "controlnet"}),
    CoreLoader("DiffControlNetLoader", {"control_net_name": "controlnet"}),
    CoreLoader("CLIPVisionLoader", {"clip_name": "clip_vision"}),
    CoreLoader("StyleModelLoader", {"style_model_name": "style_models"}),
    CoreLoader("GLIGENLoader", {"gligen_name": "gligen"}),
    CoreLoader("UpscaleModelLoader", {"model_name": "upscale_models"}),
    CoreLoader("LatentUpscaleModelLoader", {"model_name": "latent_upscale_models"}),
    CoreLoader("AudioEncoderLoader", {"audio_encoder_name": "audio_encoders"}),
    CoreLoader("PhotoMakerLoader", {"photomaker_model_name": "photomaker"}),
    CoreLoader("ModelPatchLoader", {"name": "model_patches"}),
    CoreLoader("LoraLoader", {"lora_name": "loras"}),
    CoreLoader("LoraLoaderModelOnly", {"lora_name": "loras"}),
)
BY_NAME: Mapping[str, CoreLoader] = {loader.name: loader for loader in LOADERS}
KIND_FOLDERS: Mapping[str, str] = {
    one.kind: folder for one in LOADERS if one.kind != "loader" for folder in one.files.values()
}
"""Key of a short form -> the folder of its files."""

_TOO_GENERAL = frozenset({"name", "model_name", "config_name"})
"""Inputs that plugins use for all kinds of files."""
_BY_INPUT: dict[str, str] = {}
for _loader in LOADERS:
    for _input, _folder in _loader.files.items():
        _BY_INPUT.setdefault(re.sub(r"\d+$", "", _input), _folder)


def kind_of(loader: str) -> str:
    """Return the key of preload.yaml that stands for this node class."""
    return BY_NAME[loader].kind if loader in BY_NAME else "loader"


def short_form(kind: str, files: int = 1) -> CoreLoader:
    """Return the node class that an entry of this kind with `files` files calls. Raises LookupError."""
    return next(one for one in LOADERS if one.kind == kind and len(one.files) == files)


def folder_of(input_name: str, loader: str = "") -> str | None:
    """Return the folder that is searched for what an input names; None if unknown.

    A plugin's loader usually calls its inputs as ComfyUI's own do: `ckpt_name`, `clip_name2`.
    """
    if loader in BY_NAME:
        return BY_NAME[loader].files.get(input_name)
    base = re.sub(r"\d+$", "", input_name)
    return None if base in _TOO_GENERAL else _BY_INPUT.get(base)


def named_files(loader: str, inputs: Mapping[str, Any]) -> list[str]:
    """Return the values that name a model file.

    Of a pack's loader those with such an ending: the others may be texts.
    """
    if loader in BY_NAME:
        return [str(inputs[name]) for name in BY_NAME[loader].files if inputs.get(name)]
    values = [value for value in inputs.values() if isinstance(value, str)]
    return [value for value in values if value.lower().endswith(MODEL_FILES) and "\n" not in value]
