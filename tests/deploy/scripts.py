"""Owns the scripts of the chart's sidecars: as modules, and as the chart runs them."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType

from tests.deploy.manifests import ALL_ON, CHART, chart, containers, pod

FILES = CHART / "files"


def load(name: str) -> ModuleType:
    """A script as a module."""
    spec = importlib.util.spec_from_file_location(name, FILES / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def command(name: str, **paths: str) -> list[str]:
    """That of a container of the chart, with our Python and our folders."""
    words = containers(pod(chart(ALL_ON)))[name]["command"]
    return [sys.executable, *(paths.get(word) or word.replace("/scripts", str(FILES)) for word in words[1:])]
