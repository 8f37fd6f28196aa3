"""What a loader node's INPUT_TYPES() says, and which model files its values name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import folder_paths

from comfy_preload.core.host import NO_DEFAULT, InputSpec, LoaderSpec, ModelFile
from comfy_preload.core.node_types import NodeInput, inputs_of
from comfy_preload.host import files
from comfy_preload.host.loaders import identity

import nodes


def spec_of(name: str) -> LoaderSpec | None:
    """Describe a node class. Raises what its INPUT_TYPES() raises."""
    cls = nodes.NODE_CLASS_MAPPINGS.get(name)
    if cls is None:
        return None
    return LoaderSpec(name, identity(cls), tuple(map(_input, inputs_of(cls.INPUT_TYPES()))))


def _input(declared: NodeInput) -> InputSpec:
    options = declared.options
    default = declared.extra.get("default", options[0] if options else NO_DEFAULT)
    folders = _folders(declared.name, options) if options is not None else ()
    return InputSpec(declared.name, declared.required, declared.type, options, default, folders)


def _folders(name: str, options: tuple[Any, ...]) -> tuple[str, ...]:
    """The model folders whose files these options are, told by comparing the lists.

    Nodes do not say it. The usual folder wins a tie; a folder that adds no option is left out.
    """
    usual = files.usual_folder(name)
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
    """The files of a kind; none if it was registered in a form that cannot be listed (other plugins' business)."""
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
