"""Our log lines, marked: ComfyUI's log format shows neither the logger's name nor the level."""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from typing import Any


class _Marked(logging.LoggerAdapter[logging.Logger]):
    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        return f"[preload] {msg}", kwargs


log = _Marked(logging.getLogger("preload"), {})
"""One logger, under a fixed name: `__name__` is a path here."""
