"""Where ComfyUI is, and its `folder_paths` in this process: the same folders as at start-up, and no torch."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from comfy_preload import PLUGIN_FOLDER
from comfy_preload.core.errors import PreloadError, problem
from comfy_preload.core.text import without_paths

_OUTPUTS = ("checkpoints", "clip", "vae", "diffusion_models", "loras")
"""Kinds of models that ComfyUI's own nodes save below `output` (apply_custom_paths, main.py)."""


def find(named: Path | None) -> Path:
    """The folder with `folder_paths.py`. Raises PreloadError: comfyui_not_found."""
    variable = os.environ.get("COMFYUI_PATH", "").strip()
    if named is not None:
        path, place = named, "where --comfyui says"
    elif variable:
        path, place = Path(variable), "where COMFYUI_PATH says"
    else:
        path, place = PLUGIN_FOLDER.parents[1], "two folders above the plugin"
    path = path.expanduser().resolve()
    if not (path / "folder_paths.py").is_file():
        raise PreloadError(problem("comfyui_not_found", place=place))
    return path


def enter(
    comfyui: Path, base_directory: Path | None = None, extra: Sequence[Path] = (), user: Path | None = None
) -> None:
    """Import `folder_paths` as ComfyUI's main.py does, with its search paths applied. Raises PreloadError.

    main.py itself cannot be imported: it goes on to run other plugins' prestartup scripts and to import
    torch.
    """
    ours = sys.argv
    sys.argv = [
        str(comfyui / "main.py"),
        *(("--base-directory", str(base_directory)) if base_directory else ()),
    ]
    if str(comfyui) not in sys.path:
        sys.path.insert(0, str(comfyui))
    try:
        importlib.import_module("comfy.options").enable_args_parsing()
        folder_paths = importlib.import_module("folder_paths")  # reads sys.argv
        if user is not None:
            folder_paths.set_user_directory(str(user.expanduser().absolute()))
        _apply([comfyui / "extra_model_paths.yaml"], optional=True)
        _apply(extra)
        for kind in _OUTPUTS:
            folder_paths.add_model_folder_path(kind, str(Path(folder_paths.get_output_directory()) / kind))
    except (Exception, SystemExit) as error:
        name = type(error).__name__
        raise PreloadError(
            problem("comfyui_unusable", error=name, reason=without_paths(str(error)))
        ) from error
    finally:
        sys.argv = ours


def version(comfyui: Path) -> str | None:
    """As ComfyUI has it in comfyui_version.py, if it has one."""
    if not (comfyui / "comfyui_version.py").is_file():
        return None
    return str(importlib.import_module("comfyui_version").__version__)


def user_folder() -> Path:
    """Where ComfyUI keeps what its one user saves. After `enter`."""
    found: Path = importlib.import_module("comfy_preload.host.files").user_folder()
    return found


def _apply(files: Sequence[Path], *, optional: bool = False) -> None:
    for file in files:
        if optional and not file.is_file():
            continue
        importlib.import_module("utils.extra_config").load_extra_path_config(str(file))
