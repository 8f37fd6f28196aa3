"""Model files by name. Of ComfyUI it needs `folder_paths` alone, so it works before torch is there."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import folder_paths

from ..core.host import ModelFile


def find(name: str, folders: Iterable[str] = ()) -> tuple[ModelFile, ...]:
    """The file of that name in the first of these kinds of folders that has it, or in any kind.

    `taesd` and the like stand for two files in vae_approx (VAELoader.load_taesd, nodes.py). `..` in a
    name does not lead out of the folders (`get_full_path`, folder_paths.py).
    """
    kinds = tuple(folders)
    for folder in kinds or tuple(folder_paths.folder_names_and_paths):
        path = folder_paths.get_full_path(folder, name)
        if path is not None:
            return (ModelFile(name, folder, Path(path)),)
    return _tiny_vae(name) if "vae" in kinds else ()


def _tiny_vae(name: str) -> tuple[ModelFile, ...]:
    parts = (f"{name}_encoder.", f"{name}_decoder.")
    files = (f for f in folder_paths.get_filename_list("vae_approx") if f == name or f.startswith(parts))
    found = ((file, folder_paths.get_full_path("vae_approx", file)) for file in files)
    return tuple(ModelFile(file, "vae_approx", Path(path)) for file, path in found if path)


def weights_grow_by() -> int:
    """How many times larger than its fp16 file a model is in main memory: ComfyUI computes in fp32 on a CPU."""
    from comfy.cli_args import args

    return 2 if args.cpu else 1


def searched(folder: str) -> int:
    """How many directories ComfyUI searches for that kind of model."""
    return len(folder_paths.get_folder_paths(folder))
