"""Owns the rendering of deploy/: by real helm and real kubectl, into plain data. Rendered once for each set of values."""

from __future__ import annotations

import functools
import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from preload_plugin.tests.deploy.tools import ROOT, helm, kubectl

CHART = ROOT / "deploy" / "helm" / "comfyui-preload"
KUSTOMIZE = ROOT / "deploy" / "kubernetes"
Manifest = dict[str, Any]


def chart(values: Mapping[str, Any] | None = None, *files: Path, release: str = "demo") -> list[Manifest]:
    """What `helm template` makes of the chart; raises AssertionError with helm's words."""
    return _loaded(_template(json.dumps(values or {}), files, release))


def overlay(name: str) -> list[Manifest]:
    """What `kubectl kustomize` makes of an overlay."""
    return _loaded(_kustomized(KUSTOMIZE / "overlays" / name))


def kustomized(folder: Path) -> list[Manifest]:
    """What `kubectl kustomize` makes of any folder."""
    return _loaded(kubectl("kustomize", str(folder)))


def the(kind: str, manifests: list[Manifest]) -> Manifest:
    """The only one of that kind."""
    (found,) = (m for m in manifests if m["kind"] == kind)
    return found


def pod(manifests: list[Manifest]) -> Manifest:
    """The pod's spec."""
    spec: Manifest = the("Deployment", manifests)["spec"]["template"]["spec"]
    return spec


def container(manifests: list[Manifest]) -> Manifest:
    """ComfyUI's container."""
    (found,) = pod(manifests)["containers"]
    return found


def settings(manifests: list[Manifest]) -> str:
    """The text of preload.yaml."""
    text: str = config(manifests)["data"]["preload.yaml"]
    return text


def config(manifests: list[Manifest]) -> Manifest:
    """The ConfigMap with the settings."""
    (found,) = (m for m in manifests if m["kind"] == "ConfigMap" and "preload.yaml" in m["data"])
    return found


@functools.cache
def _template(values: str, files: tuple[Path, ...], release: str) -> str:
    with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
        file.write(values)
        file.flush()
        more = [word for path in (*files, Path(file.name)) for word in ("--values", str(path))]
        return helm("template", release, str(CHART), "--namespace", "comfyui", *more)


@functools.cache
def _kustomized(folder: Path) -> str:
    return kubectl("kustomize", str(folder))


def _loaded(text: str) -> list[Manifest]:
    return [one for one in yaml.safe_load_all(text) if one]


def walk(value: Any) -> Iterator[Any]:
    """The value and all that it holds."""
    yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from walk(inner)
