"""Nodes that a user can put in a graph: none yet. Preloading needs none: stock loaders hit."""

from __future__ import annotations

NODE_CLASS_MAPPINGS: dict[str, type] = {}
NODE_DISPLAY_NAME_MAPPINGS: dict[str, str] = {}
