"""Our log lines, marked: ComfyUI's log format shows neither the logger's name nor the level."""

from __future__ import annotations

import logging
from collections.abc import Iterable, MutableMapping
from typing import Any


class _Marked(logging.LoggerAdapter[logging.Logger]):
    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        return f"[preload] {msg}", kwargs


log = _Marked(logging.getLogger("preload"), {})
"""One logger, under a fixed name: `__name__` is a path here."""


MOST_NAMES = 20


def counted(count: int, noun: str) -> str:
    """Write a number with its noun: 1 model, 2 models."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def listed(names: Iterable[str]) -> str:
    """Write names, of many only the first: a, b, … and 1,020 more."""
    every = list(names)
    left = len(every) - MOST_NAMES
    return ", ".join(every[:MOST_NAMES]) + (f" and {left:,} more" if left > 0 else "")
