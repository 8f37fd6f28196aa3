"""Owns how pytest sees the plugin: `comfy_preload` is imported from the root (`pythonpath` in pyproject.toml).

The root itself holds an `__init__.py`, which only ComfyUI runs; pytest would import it as soon as it collects a test.
"""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


class _PluginRootIsAPlainFolder:
    """Written straight into a conftest, the hook is not asked about the root; as a plugin it is."""

    def pytest_collect_directory(self, path: Path, parent: pytest.Collector) -> pytest.Collector | None:
        return pytest.Dir.from_parent(parent, path=path) if path == ROOT else None


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(_PluginRootIsAPlainFolder())
