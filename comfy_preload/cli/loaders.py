"""The core loader nodes as a table, for where ComfyUI's node classes cannot be asked: they import torch.

A loader of another plugin takes what it is given, and is looked at only when ComfyUI starts. So are the
values of inputs that differ from one version of ComfyUI to the next, such as the `type` of CLIPLoader.
"""

from __future__ import annotations

import importlib
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from comfy_preload.core.host import GraphNode, Loaders, ModelFile
from comfy_preload.core.loader_table import BY_NAME, GGUF, folder_of
from comfy_preload.core.node_types import NO_DEFAULT, LoaderSpec, NodeInput
from comfy_preload.core.settings.entry import Entry

DTYPES = ("default", "fp8_e4m3fn", "fp8_e4m3fn_fast", "fp8_e5m2")
DEVICES = ("default", "cpu")
TINY_VAES = ("taesd", "taesdxl", "taesd3", "taef1")
"""VAELoader offers one if vae_approx has its encoder and its decoder (VAELoader.vae_list, nodes.py)."""
VIDEO_TINY_VAES = ("taehv", "lighttaew2_2", "lighttaew2_1", "lighttaehy1_5")

LINKS = {
    "DiffControlNetLoader": ("model",),
    "LoraLoader": ("model", "clip"),
    "LoraLoaderModelOnly": ("model",),
}
"""Inputs that come from another node: these cannot be preloaded."""

MORE: dict[str, tuple[NodeInput, ...]] = {
    "UNETLoader": (
        NodeInput("weight_dtype", required=True, type="COMBO", options=DTYPES, default="default"),
    ),
    "CLIPLoader": (
        NodeInput("type", required=True, type="COMBO", default="stable_diffusion"),
        NodeInput("device", required=False, type="COMBO", options=DEVICES, default="default"),
    ),
    "DualCLIPLoader": (
        NodeInput("type", required=True, type="COMBO", default="sdxl"),
        NodeInput("device", required=False, type="COMBO", options=DEVICES, default="default"),
    ),
    "LoraLoader": tuple(
        NodeInput(f"strength_{n}", required=True, type="FLOAT", default=1.0) for n in ("model", "clip")
    ),
    "LoraLoaderModelOnly": (NodeInput("strength_model", required=True, type="FLOAT", default=1.0),),
}
"""The other inputs. `options=None`: the values are not the same in every version, any goes here."""


class CoreLoaders(Loaders):
    """Answers what `plan` asks, from the table and ComfyUI's `folder_paths`. After `comfyui.enter`."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        """`entries`: what loaders outside the table are given is all that is known of their inputs."""
        self._folder_paths = importlib.import_module("folder_paths")
        self._files = importlib.import_module("comfy_preload.host.files")
        self._foreign: dict[str, dict[str, bool]] = {}
        """Loader -> its inputs, and whether they name a GGUF file."""
        for entry in entries:
            if entry.loader and entry.loader not in BY_NAME:
                found = self._foreign.setdefault(entry.loader, {})
                for name, value in entry.inputs.items():
                    found[name] = found.get(name, False) or str(value).lower().endswith(GGUF)

    def loader_names(self) -> Collection[str]:
        return [*BY_NAME, *self._foreign]

    def knows(self, loader: str) -> bool:
        """False for a loader that only ComfyUI's start can check."""
        return loader in BY_NAME

    def loader(self, name: str) -> LoaderSpec | None:
        if name in self._foreign:
            inputs = (self._foreign_input(n, is_gguf=gguf) for n, gguf in self._foreign[name].items())
            return LoaderSpec(name, name, tuple(inputs))
        if name not in BY_NAME:
            return None
        links = (NodeInput(n, required=True, type=n.upper()) for n in LINKS.get(name, ()))
        files = (self._file_input(n, folder) for n, folder in BY_NAME[name].files.items())
        return LoaderSpec(name, name, (*links, *files, *MORE.get(name, ())))

    def files(self, spec: LoaderSpec, inputs: Mapping[str, Any]) -> tuple[ModelFile, ...]:
        found: dict[Path, ModelFile] = {}
        for wanted in spec.inputs:
            value = inputs.get(wanted.name)
            usual = folder_of(wanted.name, spec.name)
            folders = wanted.folders or ((usual,) if usual else ())
            if isinstance(value, str) and value and (wanted.folders or wanted.type == "STRING"):
                found |= {file.path: file for file in self._files.find(value, folders)}
        return tuple(found.values())

    def searched(self, folder: str) -> list[str]:
        return list(self._files.searched(folder))

    def changes(self, spec: LoaderSpec, inputs: Mapping[str, Any], node: GraphNode) -> str | None:  # noqa: ARG002 — only a class can answer
        return ""

    def failed_imports(self) -> Collection[str]:
        return ()

    def arguments(self, spec: LoaderSpec, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        defaults = {i.name: i.default for i in MORE.get(spec.name, ()) if i.default is not NO_DEFAULT}
        return {**defaults, **inputs}

    def anywhere(self, name: str) -> ModelFile | None:
        """The first model file of that name, whatever kind of folder it lies in."""
        for folder in self._folders():
            if path := self._folder_paths.get_full_path(folder, name):
                return ModelFile(name, folder, Path(path))
        return None

    def model_files(self) -> list[str]:
        """The names of all model files."""
        return [name for folder in self._folders() for name in self._folder_paths.get_filename_list(folder)]

    def folder_count(self) -> int:
        """How many directories ComfyUI searches in all."""
        return sum(len(self.searched(folder)) for folder in self._folders())

    def _folders(self) -> list[str]:
        return [
            name
            for name in self._folder_paths.folder_names_and_paths
            if name not in ("custom_nodes", "configs")
        ]

    def has_tiny_vae(self, name: str) -> bool:
        """Are its encoder and its decoder there?"""
        return len(self._files.find(name, ("vae",))) == 2

    def _foreign_input(self, name: str, *, is_gguf: bool) -> NodeInput:
        """An input of a pack's loader: only where a GGUF file lies is known without the pack."""
        folder = folder_of(name)
        if not is_gguf or folder is None:
            return NodeInput(name, required=False, type="STRING")
        return NodeInput(
            name, required=False, type="COMBO", options=self._every_file(folder), folders=(folder,)
        )

    def _every_file(self, folder: str) -> tuple[str, ...]:
        """Files of every ending, those too that `get_filename_list` leaves out."""
        found: list[str] = []
        for directory in self._folder_paths.get_folder_paths(folder):
            found += self._folder_paths.recursive_search(directory, [".git"])[0]
        return tuple(found)

    def _file_input(self, name: str, folder: str) -> NodeInput:
        options = list(self._folder_paths.get_filename_list(folder))
        if folder == "vae":
            options += [tiny for tiny in TINY_VAES if self.has_tiny_vae(tiny)]
            options += [
                f for f in self._folder_paths.get_filename_list("vae_approx") if f.startswith(VIDEO_TINY_VAES)
            ]
            options.append("pixel_space")
        return NodeInput(name, required=True, type="COMBO", options=tuple(options), folders=(folder,))
