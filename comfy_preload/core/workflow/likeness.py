"""Whether two prompts are the same workflow: the same nodes and links, with any texts, seeds and sizes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from comfy_preload.core.workflow.unknown import linked


def likeness(prompt: Mapping[str, Any]) -> str:
    """Return a text that is equal for prompts of the same workflow. Node ids do not matter.

    Args:
        prompt: In API format; also one of a user, of any content.
    """
    kinds = {str(name): _kind(node) for name, node in prompt.items()}
    nodes = sorted(repr((kinds[str(name)], sorted(_links(node, kinds)))) for name, node in prompt.items())
    return hashlib.sha256("\n".join(nodes).encode("utf-8", "replace")).hexdigest()


def _kind(node: Any) -> str:
    return str(node.get("class_type", "")) if isinstance(node, dict) else ""


def _links(node: Any, kinds: Mapping[str, str]) -> list[tuple[str, str, str]]:
    inputs = node.get("inputs") if isinstance(node, dict) else None
    if not isinstance(inputs, dict):
        return []
    found = [(str(name), linked(value), value) for name, value in inputs.items()]
    return [
        (name, kinds.get(source, ""), str(value[1])) for name, source, value in found if source is not None
    ]
