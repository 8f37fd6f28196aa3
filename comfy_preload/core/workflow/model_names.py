"""What looks like the name of a model file, among the values of a node."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from comfy_preload.core.loader_table import MODEL_FILES

_LONGEST = 300


def model_names(value: Any) -> Iterator[str]:
    """Every name of a model file in a value, at any depth, as loaders take it ("sub/model.safetensors")."""
    todo = [value]
    while todo:
        one = todo.pop()
        if isinstance(one, str) and is_model_name(one):
            yield one
        elif isinstance(one, dict):
            todo += reversed(list(one.values()))
        elif isinstance(one, list):
            todo += reversed(one)


def is_model_name(text: str) -> bool:
    """Not a sentence that ends in one, nor an address, nor an embedding in a prompt's text."""
    return (
        text.lower().endswith(MODEL_FILES)
        and len(text) <= _LONGEST
        and not any(mark in text for mark in ("\n", "://", "embedding:"))
    )
