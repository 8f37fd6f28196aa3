"""Owns how pytest sees the plugin: as the package `preload_plugin`, never by running its `__init__.py`.

The plugin's folder is a package whose name ComfyUI makes up from its path. pytest would import that `__init__.py` as soon as
it collects a test, and a folder on `sys.path` would let our `nodes` shadow ComfyUI's. So, by public hooks only:

1. the plugin root is collected as a plain folder;
2. a bare module under a legal name has the root as its `__path__`: `from preload_plugin.core.plan import Plan` works, with the
   relative imports inside it, and `sys.path` stays as it is.
"""

from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


class _PluginRootIsAPlainFolder:
    """Written straight into a conftest, the hook is not asked about the root; as a plugin it is."""

    def pytest_collect_directory(self, path: Path, parent: pytest.Collector) -> pytest.Collector | None:
        return pytest.Dir.from_parent(parent, path=path) if path == ROOT else None


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(_PluginRootIsAPlainFolder())


# At import: a conftest further down is read before pytest_configure, if a test in its folder is named on the command line.
_package = types.ModuleType("preload_plugin")
_package.__path__ = [str(ROOT)]
sys.modules["preload_plugin"] = _package
