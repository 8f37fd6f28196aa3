"""Comfy Preload: models loaded before ComfyUI takes traffic, and `/ready` to tell.

What ComfyUI sees of this folder. Nothing else imports it.
"""

from __future__ import annotations

from pathlib import Path

from .nodes import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS
from .startup import install

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]

install(Path(__file__).resolve().parent)
