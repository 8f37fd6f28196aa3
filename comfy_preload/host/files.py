"""Model files by name.

Of ComfyUI it needs `folder_paths` and `comfy.cli_args` alone, so it works before torch is there.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import folder_paths

from comfy_preload import PLUGIN_FOLDER
from comfy_preload.core.host import ModelFile


def find(name: str, folders: Iterable[str] = ()) -> tuple[ModelFile, ...]:
    """The file of that name in the first of these kinds of folders that has it.

    Without kinds: in any, but only if no other has a file of that name too. `taesd` and the like stand for
    two files in vae_approx (VAELoader.load_taesd, nodes.py). `..` in a name does not lead out of the folders
    (`get_full_path`, folder_paths.py).
    """
    kinds = tuple(folders)
    found: dict[str, ModelFile] = {}
    for folder in kinds or tuple(folder_paths.folder_names_and_paths):
        path = folder_paths.get_full_path(folder, name)
        if path is not None:
            found.setdefault(path, ModelFile(name, folder, Path(path)))
            if kinds:
                break
    if not found and "vae" in kinds:
        return _tiny_vae(name)
    return tuple(found.values()) if len(found) == 1 else ()


def _tiny_vae(name: str) -> tuple[ModelFile, ...]:
    parts = (f"{name}_encoder.", f"{name}_decoder.")
    files = (f for f in folder_paths.get_filename_list("vae_approx") if f == name or f.startswith(parts))
    found = ((file, folder_paths.get_full_path("vae_approx", file)) for file in files)
    return tuple(ModelFile(file, "vae_approx", Path(path)) for file, path in found if path)


def listens_at() -> tuple[list[str], int]:
    """The addresses and the port that ComfyUI will listen at: `--listen`, `--port`."""
    from comfy.cli_args import args

    return args.listen.split(","), args.port


def searched(folder: str) -> list[str]:
    """Return the directories that ComfyUI searches for that kind of model, without paths of this machine.

    One below ComfyUI's own `models` is called as there, `models/vae`; any other by its last part.
    """
    models = Path(folder_paths.models_dir)
    return [
        path.relative_to(models.parent).as_posix() if path.is_relative_to(models) else path.name
        for path in map(Path, folder_paths.get_folder_paths(folder))
    ]


def comfyui_folder() -> Path:
    """Where ComfyUI's own code is."""
    return Path(str(folder_paths.__file__)).resolve().parent


def startup_records() -> tuple[Path, ...]:
    """Where records of earlier starts are.

    The one that starts write themselves, then the one of a container image.
    """
    own = Path(folder_paths.get_user_directory()) / "comfy-preload" / "startup.trace"
    return own, PLUGIN_FOLDER / "config" / "startup.trace"


def user_folder() -> Path:
    """`user/default`, below which the editor saves workflows (app/user_manager.py)."""
    return Path(folder_paths.get_user_directory()) / "default"
