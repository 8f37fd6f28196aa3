"""What a loader node's INPUT_TYPES() says, and which model files its values name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import folder_paths

from comfy_preload.core.host import ModelFile
from comfy_preload.core.loader_table import folder_of
from comfy_preload.core.node_types import NO_DEFAULT, LoaderSpec, NodeInput, inputs_of
from comfy_preload.host import files
from comfy_preload.host.loaders import class_id, hidden
from comfy_preload.host.node_classes import node_classes


def spec_of(name: str) -> LoaderSpec | None:
    """Describe a node class. Raises what its INPUT_TYPES() raises."""
    cls = node_classes().get(name)
    if cls is None:
        return None
    inputs = tuple(_completed(one, name) for one in inputs_of(cls.INPUT_TYPES()))
    kinds = set(hidden(cls).values())
    sees_graph = "UNIQUE_ID" in kinds and not kinds.isdisjoint(("PROMPT", "DYNPROMPT"))
    return LoaderSpec(name, class_id(cls), inputs, sees_graph)


def _completed(declared: NodeInput, loader: str) -> NodeInput:
    """Add what the editor and the executor know besides.

    The first option is the default, the options are files.
    """
    options = declared.options
    if options is None:
        return declared
    default = options[0] if options and declared.default is NO_DEFAULT else declared.default
    return replace(declared, default=default, folders=_folders(options, folder_of(declared.name, loader)))


def _folders(options: tuple[Any, ...], usual: str | None) -> tuple[str, ...]:
    """Return the model folders whose files these options are, found by comparing the lists.

    Nodes do not declare it.

    `usual` wins a tie, and counts while it is empty. A folder that adds no option is left out.
    """
    offered = set(map(str, options))
    if usual and offered and _listed(usual) >= offered:
        return (usual,)  # nothing is listed that nobody asked for: other plugins register whole data sets
    listed = {
        folder: names
        for folder in folder_paths.folder_names_and_paths
        if folder not in ("custom_nodes", "configs") and (names := _listed(folder)) and names <= offered
    }
    found: list[str] = []
    covered: set[str] = set()
    for folder in sorted(listed, key=lambda folder: (folder != usual, -len(listed[folder]))):
        if listed[folder] - covered:
            found.append(folder)
            covered |= listed[folder]
    return tuple(found) or ((usual,) if usual else ())


def _listed(folder: str) -> set[str]:
    """The files of a kind.

    None if it was registered in a form that cannot be listed (other plugins' business).
    """
    try:
        return set(folder_paths.get_filename_list(folder))
    except Exception:  # noqa: BLE001 — whatever it raises, it must not cost the other entries
        return set()


def files_of(spec: LoaderSpec, inputs: Mapping[str, Any]) -> tuple[ModelFile, ...]:
    """The model files that these inputs name, in the order of the inputs, each once."""
    found: dict[Path, ModelFile] = {}
    for wanted in spec.inputs:
        value = inputs.get(wanted.name)
        if isinstance(value, str) and wanted.folders:
            found |= {file.path: file for file in files.find(value, wanted.folders)}
    return tuple(found.values())
