"""Comfy Preload: the code behind the plugin in the folder above. See docs/architecture.md."""

from __future__ import annotations

from pathlib import Path

PLUGIN_FOLDER = Path(__file__).resolve().parent.parent
"""The folder that users copy into `custom_nodes`: it holds this package, `config/`, `nodes/` and `web/`."""
