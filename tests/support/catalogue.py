"""The loader nodes that `plan` needs, over some files, declared as ComfyUI 0.3.75 declares them.

A fake of the protocol `Loaders` in core/host.py, not of ComfyUI.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from comfy_preload.core.host import GraphNode, Loaders, ModelFile
from comfy_preload.core.node_types import LoaderSpec, NodeInput
from comfy_preload.core.planning.call import LoaderCall
from comfy_preload.core.planning.plan import Plan, build
from comfy_preload.core.settings.document import parse
from comfy_preload.core.settings.validation import validate

FOLDERS: dict[str, tuple[str, ...]] = {
    "checkpoints": ("sd15.safetensors", "sdxl/sd_xl_base_1.0.safetensors"),
    "diffusion_models": ("flux1-dev.safetensors", "flux1-schnell.safetensors"),
    "text_encoders": ("clip_g.safetensors", "clip_l.safetensors", "t5xxl_fp16.safetensors"),
    "vae": ("ae.safetensors",),
    "vae_approx": ("taesd_decoder.safetensors", "taesd_encoder.safetensors"),
    "loras": ("style.safetensors",),
}
"""The default content of the model folders."""

DTYPES = ("default", "fp8_e4m3fn", "fp8_e4m3fn_fast", "fp8_e5m2")
_TYPES = {
    "CLIPLoader": (
        "stable_diffusion",
        "stable_cascade",
        "sd3",
        "stable_audio",
        "mochi",
        "ltxv",
        "pixart",
        "cosmos",
        "wan",
    ),
    "DualCLIPLoader": (
        "sdxl",
        "sd3",
        "flux",
        "hunyuan_video",
        "hidream",
        "hunyuan_image",
        "hunyuan_video_15",
    ),
}


class Catalogue(Loaders):
    """ComfyUI's own loaders over the files in `folders`, and one node class whose INPUT_TYPES raises."""

    def __init__(self, folders: Mapping[str, tuple[str, ...]] = FOLDERS, root: Path = Path("models")) -> None:
        self._folders = folders
        self._root = root
        self.failed: tuple[str, ...] = ()
        self._specs = {spec.name: spec for spec in self._declare()}

    def loader_names(self) -> Collection[str]:
        return [*self._specs, "BrokenLoader"]

    def loader(self, name: str) -> LoaderSpec | None:
        if name == "BrokenLoader":
            raise OSError(2, "No such file or directory", "/mnt/gone/list.json")
        return self._specs.get(name)

    def files(self, spec: LoaderSpec, inputs: Mapping[str, Any]) -> tuple[ModelFile, ...]:
        found = [
            ModelFile(str(inputs[i.name]), folder, self._root / folder / str(inputs[i.name]))
            for i in spec.inputs
            for folder in i.folders
            if inputs.get(i.name) in self._folders[folder]
        ]
        return tuple(found)

    def searched(self, folder: str) -> list[str]:
        older = {"diffusion_models": "unet", "text_encoders": "clip"}
        return [f"models/{name}" for name in (older.get(folder), folder) if name]

    def changes(self, spec: LoaderSpec, inputs: Mapping[str, Any], node: GraphNode) -> str | None:  # noqa: ARG002 — of the protocol
        return None if spec.name == "RandomLoader" else ""

    def failed_imports(self) -> Collection[str]:
        return self.failed

    def arguments(self, spec: LoaderSpec, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        defaults = {"type": "stable_diffusion", "device": "default"}  # of CLIPLoader.load_clip, nodes.py
        return {**(defaults if spec.name == "CLIPLoader" else {}), **inputs}

    def _declare(self) -> list[LoaderSpec]:
        return [
            self._spec("CheckpointLoaderSimple", self._files("ckpt_name", "checkpoints")),
            self._spec(
                "UNETLoader", self._files("unet_name", "diffusion_models"), _combo("weight_dtype", DTYPES)
            ),
            self._clip("CLIPLoader", "clip_name"),
            self._clip("DualCLIPLoader", "clip_name1", "clip_name2"),
            self._clip("TripleCLIPLoader", "clip_name1", "clip_name2", "clip_name3"),
            self._clip("QuadrupleCLIPLoader", "clip_name1", "clip_name2", "clip_name3", "clip_name4"),
            self._spec("VAELoader", self._files("vae_name", "vae", more=("taesd", "pixel_space"))),
            self._spec(
                "ScaledLoader",
                self._files("ckpt_name", "checkpoints"),
                NodeInput("scale", required=True, type="FLOAT", default=1.0),
            ),
            self._spec("RandomLoader", self._files("ckpt_name", "checkpoints")),
            self._spec(
                "LoraLoaderModelOnly",
                NodeInput("model", required=True, type="MODEL"),
                self._files("lora_name", "loras"),
                NodeInput("strength_model", required=True, type="FLOAT", default=1.0),
            ),
        ]

    def _clip(self, loader: str, *names: str) -> LoaderSpec:
        inputs = [self._files(name, "text_encoders") for name in names]
        if loader in _TYPES:
            inputs += [_combo("type", _TYPES[loader]), _combo("device", ("default", "cpu"), required=False)]
        return self._spec(loader, *inputs)

    def _files(self, name: str, folder: str, more: tuple[str, ...] = ()) -> NodeInput:
        options = (*self._folders[folder], *more)
        return NodeInput(
            name, required=True, type="COMBO", options=options, default=options[0], folders=(folder,)
        )

    def _spec(self, name: str, *inputs: NodeInput) -> LoaderSpec:
        return LoaderSpec(name, f"nodes.{name}", inputs)


def _combo(name: str, options: tuple[str, ...], *, required: bool = True) -> NodeInput:
    return NodeInput(name, required=required, type="COMBO", options=options, default=options[0])


def planned(text: str, catalogue: Catalogue | None = None) -> Plan:
    """Plan the entries that this text lists below `models:`."""
    return build(validate(parse(f"models:\n{text}")).entries, catalogue or Catalogue())


def call(text: str, catalogue: Catalogue | None = None) -> LoaderCall:
    """Plan the one entry that this text is."""
    [only] = planned(f"  - {text}", catalogue).calls
    return only
