"""Nodes for users' graphs.

Preloading needs none: stock loaders return preloaded models. Imports no torch or ComfyUI.
"""

from __future__ import annotations

from .model import PreloadedModel
from .running import attach
from .status import PreloadStatus

NODE_CLASS_MAPPINGS: dict[str, type] = {
    "ComfyPreload_Model": PreloadedModel,
    "ComfyPreload_Status": PreloadStatus,
}
NODE_DISPLAY_NAME_MAPPINGS: dict[str, str] = {
    "ComfyPreload_Model": "Preloaded Model",
    "ComfyPreload_Status": "Preload Status",
}

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS", "attach"]
