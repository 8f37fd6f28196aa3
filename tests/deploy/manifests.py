"""Owns the rendering of deploy/: by real helm and real kubectl, into plain data. Rendered once for each set of values."""

from __future__ import annotations

import functools
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from comfy_preload.core.settings.document import parse
from comfy_preload.core.settings.validation import Settings, validate
from tests.deploy.tools import ROOT, helm, kubectl

CHART = ROOT / "deploy" / "helm" / "comfyui-preload"
KUSTOMIZE = ROOT / "deploy" / "kubernetes"
Manifest = dict[str, Any]
WORKFLOW = '{"1": {"class_type": "VAELoader", "inputs": {"vae_name": "模型 \\"一\\".safetensors"}}}\n'
ALL_ON: dict[str, Any] = {
    "token": 'a "token": of #all',
    "workflows": {"sdxl.json": WORKFLOW, "b.json": "{}"},
    "preload": {"when": "background", "workflows": [{"path": "*.json", "warmup": True}]},
    "models": {"storageClassName": "fast", "size": "1Ti"},
    "nodeCache": {"enabled": True, "verify": True},
    "args": ["--highvram"],
    "env": [{"name": "TZ", "value": "UTC"}],
    "imagePullSecrets": [{"name": "registry"}],
    "affinity": {"podAntiAffinity": {}},
    "autoscaling": {"kind": "hpa"},
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "runtimeClassName": "nvidia",
    "networkPolicy": {
        "from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}],
        "egress": [{"to": [{"podSelector": {"matchLabels": {"app": "redis"}}}], "ports": [{"port": 6379}]}],
    },
}


def chart(values: Mapping[str, Any] | None = None, *files: Path) -> list[Manifest]:
    """What `helm template` makes of the chart; raises AssertionError with helm's words."""
    return _loaded(_template(json.dumps(values or {}), files))


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
def _template(values: str, files: tuple[Path, ...]) -> str:
    with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
        file.write(values)
        file.flush()
        more = [word for path in (*files, Path(file.name)) for word in ("--values", str(path))]
        return helm("template", "demo", str(CHART), "--namespace", "comfyui", *more)


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


def settled(rendered: list[Manifest]) -> Settings:
    """The preload.yaml, as the plugin understands it."""
    return validate(parse(settings(rendered)))


def is_built_in(manifest: Manifest) -> bool:
    """Of a kind that Kubernetes itself knows."""
    return manifest["kind"] not in ("ScaledObject", "ServiceMonitor")


RENDERED: dict[str, Callable[[], list[Manifest]]] = {
    "chart": chart,
    "chart, all on": lambda: chart(ALL_ON),
    "chart, gpu": lambda: chart(None, CHART / "examples" / "gpu.yaml"),
    "chart, cpu": lambda: chart(None, CHART / "examples" / "cpu.yaml"),
    "overlay hpa": lambda: overlay("hpa"),
    "overlay keda": lambda: overlay("keda"),
}
"""What is applied to a cluster, in each way that we ship."""
