"""Owns the rendering of deploy/: by real helm and real kubectl, into plain data.

Rendered once for each set of values.
"""

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
DOWNLOAD = {
    "url": "https://example.com/模型.safetensors",
    "path": "vae/模型 一.safetensors",
    "sha256": "a" * 64,
}
ALL_ON: dict[str, Any] = {
    "token": 'a "token": of #all',
    "workflows": {"sdxl.json": WORKFLOW, "b.json": "{}"},
    "preload": {"when": "background", "workflows": [{"path": "*.json", "warmup": True}]},
    "models": {
        "storageClassName": "fast",
        "size": "1Ti",
        "download": [DOWNLOAD],
        "downloadSecret": "hub",
        "subPath": "comfy",
    },
    "nodeCache": {"enabled": True, "verify": True, "daemonSet": True, "pruneDays": 30},
    "output": {"existingClaim": "pictures", "subPath": "out"},
    "prune": {"claims": True},
    "shm": "8Gi",
    "args": ["--highvram"],
    "extraEnv": [{"name": "TZ", "value": "UTC"}],
    "env": [{"name": "OLD", "value": "1"}],
    "envFrom": [{"secretRef": {"name": "more"}}],
    "image": {
        "registry": "ghcr.io",
        "repository": "me/app",
        "digest": f"sha256:{'0' * 64}",
        "pullPolicy": "Always",
    },
    "imagePullSecrets": ["registry", {"name": "other"}],
    "affinity": {"podAntiAffinity": {}},
    "autoscaling": {"kind": "hpa"},
    "deletionCost": {"enabled": True},
    "reloadStrategy": "reload",
    "serviceMonitor": {
        "enabled": True,
        "labels": {"release": "prometheus"},
        "metricRelabelings": [{"action": "keep"}],
    },
    "prometheusRule": {"enabled": True, "disabled": ["ComfyUIEvictions"]},
    "dashboard": {"enabled": True},
    "runtimeClassName": "nvidia",
    "priorityClassName": "high",
    "schedulerName": "own",
    "dnsPolicy": "None",
    "dnsConfig": {"nameservers": ["10.0.0.10"]},
    "hostAliases": [{"ip": "10.0.0.1", "hostnames": ["nas"]}],
    "nodeSelector": {"gpu": "yes"},
    "tolerations": [{"operator": "Exists"}],
    "topologySpreadConstraints": [
        {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {}}
    ],
    "resourceClaims": [{"name": "gpu", "resourceClaimTemplateName": "gpu"}],
    "podAnnotations": {"a.example.com/b": "c"},
    "podLabels": {"team": "x"},
    "commonLabels": {"owner": "y"},
    "commonAnnotations": {"note": "z"},
    "initContainers": [{"name": "first", "image": "busybox:1"}],
    "sidecars": [{"name": "beside", "image": "busybox:1"}],
    "extraVolumes": [{"name": "ca", "configMap": {"name": "ca"}}],
    "extraVolumeMounts": [{"name": "ca", "mountPath": "/etc/ca", "readOnly": True}],
    "preStopSeconds": 45,
    "readinessProbe": {"periodSeconds": 3},
    "service": {
        "annotations": {"x": "y"},
        "ipFamilyPolicy": "PreferDualStack",
        "ipFamilies": ["IPv6", "IPv4"],
    },
    "serviceAccount": {"annotations": {"iam": "role"}},
    "ingress": {"enabled": True, "hosts": [{"host": "a.example.com"}], "tls": [{"hosts": ["a.example.com"]}]},
    "httpRoute": {"enabled": True, "parentRefs": [{"name": "gateway"}], "hostnames": ["b.example.com"]},
    "gateway": {"enabled": True},
    "redis": {"enabled": True},
    "networkPolicy": {
        "from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}],
        "egress": [{"to": [{"podSelector": {"matchLabels": {"app": "redis"}}}], "ports": [{"port": 6379}]}],
    },
    "extraObjects": [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "{{ .Release.Name }}-extra"}},
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: more}",
    ],
}
SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
EXAMPLES = sorted(file.stem for file in (CHART / "examples").glob("*.yaml"))


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    """A part of SCHEMA, or what its $ref leads to."""
    while "$ref" in schema:
        path, schema = schema["$ref"], SCHEMA
        for part in path.removeprefix("#/").split("/"):
            schema = schema[part]
    return schema


def chart(values: Mapping[str, Any] | None = None, *files: Path, release: str = "demo") -> list[Manifest]:
    """What `helm template` makes of the chart, without its tests; raises AssertionError with helm's words."""
    found = _loaded(_template(json.dumps(values or {}), files, release))
    return [one for one in found if "helm.sh/hook" not in one["metadata"].get("annotations", {})]


def hooks(values: Mapping[str, Any] | None = None) -> list[Manifest]:
    """What `helm test` runs."""
    found = _loaded(_template(json.dumps(values or {}), (), "demo"))
    return [one for one in found if "helm.sh/hook" in one["metadata"].get("annotations", {})]


def example(name: str) -> list[Manifest]:
    """The chart with a values file of examples/."""
    return chart(None, CHART / "examples" / f"{name}.yaml")


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


def deployments(manifests: list[Manifest]) -> list[Manifest]:
    """Those that run ComfyUI: one for each pool."""
    found = [m for m in manifests if m["kind"] == "Deployment"]
    return [
        m
        for m in found
        if any(one["name"] == "comfyui" for one in m["spec"]["template"]["spec"]["containers"])
    ]


def deployment(manifests: list[Manifest]) -> Manifest:
    """The only one that runs ComfyUI."""
    (found,) = deployments(manifests)
    return found


def pod(manifests: list[Manifest]) -> Manifest:
    """The pod's spec."""
    spec: Manifest = deployment(manifests)["spec"]["template"]["spec"]
    return spec


def container(manifests: list[Manifest]) -> Manifest:
    """ComfyUI's container."""
    return containers(pod(manifests))["comfyui"]


def containers(spec: Manifest) -> dict[str, Manifest]:
    """All of a pod, init containers too, by name."""
    return {one["name"]: one for one in (*spec.get("initContainers", ()), *spec["containers"])}


def templates(manifests: list[Manifest]) -> Iterator[tuple[Manifest, Manifest]]:
    """Every object that makes pods, with the template of its pods."""
    for one in manifests:
        if one["kind"] in ("Deployment", "DaemonSet", "Job"):
            yield one, one["spec"]["template"]


def service(manifests: list[Manifest]) -> Manifest:
    """The one with ComfyUI's port and that of the probe."""
    (found,) = (m for m in manifests if m["kind"] == "Service" and len(m["spec"]["ports"]) == 2)
    return found


def settings(manifests: list[Manifest]) -> str:
    """The text of preload.yaml."""
    text: str = config(manifests)["data"]["preload.yaml"]
    return text


def config(manifests: list[Manifest]) -> Manifest:
    """The ConfigMap with the settings."""
    (found,) = (m for m in manifests if m["kind"] == "ConfigMap" and "preload.yaml" in m.get("data", {}))
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


def settled(rendered: list[Manifest]) -> Settings:
    """The preload.yaml, as the plugin understands it."""
    return validate(parse(settings(rendered)))


def is_built_in(manifest: Manifest) -> bool:
    """Of a kind that Kubernetes itself knows."""
    return manifest["kind"] not in ("ScaledObject", "ServiceMonitor", "PrometheusRule", "HTTPRoute")


RENDERED: dict[str, Callable[[], list[Manifest]]] = {
    "chart": chart,
    "chart, all on": lambda: chart(ALL_ON),
    **{f"chart, {name}": functools.partial(example, name) for name in EXAMPLES},
    "overlay plain": lambda: overlay("plain"),
    "overlay hpa": lambda: overlay("hpa"),
    "overlay keda": lambda: overlay("keda"),
}
"""What is applied to a cluster, in each way that we ship."""
