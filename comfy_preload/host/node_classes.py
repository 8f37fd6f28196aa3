"""The node classes of this ComfyUI.

The only place of the plugin that imports ComfyUI's own module `nodes`.
"""

from __future__ import annotations

from typing import Any

import nodes  # ComfyUI's nodes.py. The plugin's own folder of that name is never on sys.path.


def node_classes() -> dict[str, type[Any]]:
    """Return `NODE_CLASS_MAPPINGS`.

    ComfyUI's nodes, and those of all plugins once ComfyUI has imported them.
    """
    return nodes.NODE_CLASS_MAPPINGS


def loaded_folders() -> dict[str, str]:
    """Return `LOADED_MODULE_DIRS`.

    The name and folder of each custom node pack that was imported without an error.
    """
    return nodes.LOADED_MODULE_DIRS  # pyright: ignore[reportAttributeAccessIssue] — ComfyUI's module
