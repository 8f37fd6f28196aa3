"""The custom node packs of this ComfyUI: which of them could not be imported.

Source: `load_custom_node` in nodes.py, the same in 0.3.75 and 0.33.0. ComfyUI writes IMPORT FAILED into its
log and keeps no list, but leaves the module in `sys.modules` and its name out of `LOADED_MODULE_DIRS`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import folder_paths

from comfy_preload.host.node_classes import loaded_folders, node_classes


def failed_imports() -> list[str]:
    """Return the names of the packs whose import raised, or whose `comfy_entrypoint` brought no node."""
    bringing = {getattr(cls, "RELATIVE_PYTHON_MODULE", "") for cls in node_classes().values()}
    loaded = loaded_folders()
    failed: set[str] = set()
    for pack in _packs():
        # how load_custom_node calls a single file and a folder, in sys.modules and in LOADED_MODULE_DIRS
        stem = str(pack.with_suffix(""))
        known, listed = (stem, stem) if pack.is_file() else (str(pack).replace(".", "_x_"), pack.name)
        module = sys.modules.get(known)
        if module is None:  # disabled, or not among those to import
            continue
        name = Path(listed).name
        is_empty = hasattr(module, "comfy_entrypoint") and f"custom_nodes.{name}" not in bringing
        if listed not in loaded or is_empty:
            failed.add(name)
    return sorted(failed)


def _packs() -> Iterator[Path]:
    for folder in map(Path, folder_paths.get_folder_paths("custom_nodes")):
        if folder.is_dir():
            yield from folder.iterdir()
