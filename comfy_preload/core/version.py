"""The version of this plugin."""

from __future__ import annotations

import contextlib

from comfy_preload import PLUGIN_FOLDER


def plugin_version() -> str:
    """Read the version from pyproject.toml, its only place; `unknown` if it cannot be read.

    Python 3.10 has no TOML reader.
    """
    with contextlib.suppress(OSError):
        for line in (PLUGIN_FOLDER / "pyproject.toml").read_text(encoding="utf-8").splitlines():
            if line.startswith("version = "):
                return line.partition('"')[2].rstrip('"')[:50] or "unknown"
    return "unknown"
