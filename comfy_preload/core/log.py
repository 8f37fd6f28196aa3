"""Our log lines, marked: ComfyUI's log format shows neither the logger's name nor the level."""

from __future__ import annotations

import logging
from collections.abc import Collection, MutableMapping
from typing import Any

MAX_LINES = 20
"""Of one list: a workflow can have hundreds of nodes of which each would be a line."""


class _Marked(logging.LoggerAdapter[logging.Logger]):
    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        return f"[preload] {msg}", kwargs


log = _Marked(logging.getLogger("preload"), {})
"""One logger, under a fixed name: `__name__` is a path here."""


def log_each(level: int, messages: Collection[str], more: str) -> None:
    """Log the first MAX_LINES messages, and the number of the others. `more`: "more nodes"."""
    for message in list(messages)[:MAX_LINES]:
        log.log(level, "%s", message)
    if (left := len(messages) - MAX_LINES) > 0:
        log.log(level, "and %d %s", left, more)
