"""Node classes that ComfyUI replaces in a prompt because they are gone.

Source: app/node_replace_manager.py, 0.33.0.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any


def renewed(server: Any, prompt: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy in which classes that are gone are replaced as `POST /prompt` does it."""
    copied = copy.deepcopy(dict(prompt))
    manager = getattr(server, "node_replace_manager", None)
    if manager is not None:
        for node in copied.values():
            node.setdefault("_meta", {})  # it is copied from each node that is replaced
        manager.apply_replacements(copied)
    return copied
