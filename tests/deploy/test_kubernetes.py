"""deploy/kubernetes and deploy/helm.

Rendered by the real programs, valid for the API, and one object fits the other.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import kubernetes_validate
import pytest

from comfy_preload.core.settings.document import parse
from comfy_preload.core.settings.validation import validate
from tests.deploy.manifests import (
    KUSTOMIZE,
    RENDERED,
    Manifest,
    chart,
    config,
    container,
    containers,
    deployment,
    deployments,
    hooks,
    is_built_in,
    overlay,
    pod,
    service,
    templates,
    the,
)
from tests.deploy.test_pods import LOCKED
from tools.chart import COPIES

VERSIONS = ("1.30", "1.33", "1.37")
"""The oldest with `preStop.sleep` ungated, one between, and the newest of kubernetes-validate."""
YOURS = {
    *(("PersistentVolumeClaim", name) for name in ("models", "pictures")),
    *(("Secret", name) for name in ("comfyui-token", "hub", "more")),
    *(("ConfigMap", name) for name in ("ca", "kube-root-ca.crt")),
}
"""What examples and ALL_ON name and the user, or Kubernetes, provides."""
SELECTING = ("Deployment", "DaemonSet", "Service", "PodDisruptionBudget", "NetworkPolicy", "ServiceMonitor")


@pytest.mark.parametrize("version", VERSIONS)
def test_schema(rendered: list[Manifest], version: str) -> None:
    """Every object is one that this Kubernetes knows, without a field that it does not know."""
    for manifest in filter(is_built_in, rendered):
        # the newer schemas know image volumes and resource claims
        if version == "1.30" and ("image" in str(volumes(manifest)) or "resourceClaims" in str(manifest)):
            continue
        kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize("version", VERSIONS)
def test_schema_finds_mistakes(version: str) -> None:
    """The test above can fail: a misspelt field, a wrong type."""
    for spoil in ({"minReadySecond": 1}, {"minReadySeconds": "x"}):
        good = deployment(chart())
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate({**good, "spec": {**good["spec"], **spoil}}, version, strict=True)


def test_kinds(rendered: list[Manifest]) -> None:
    """Nothing is missing, nothing is there twice, and each pool has at most one that scales."""
    kinds = [manifest["kind"] for manifest in rendered]

    assert {"Deployment", "Service", "ConfigMap", "PodDisruptionBudget"} <= set(kinds)
    assert len(rendered) == len({(m["kind"], m["metadata"]["name"]) for m in rendered})
    scaled = [
        m["spec"]["scaleTargetRef"]["name"]
        for m in rendered
        if m["kind"] in ("HorizontalPodAutoscaler", "ScaledObject")
    ]
    assert len(scaled) == len(set(scaled))
    for one in deployments(rendered):
        assert (one["metadata"]["name"] in scaled) != ("replicas" in one["spec"]), (
            "an autoscaler and a number would fight"
        )


def test_names(rendered: list[Manifest]) -> None:
    """Each is a name that a Service and a label may have."""
    for one in rendered:
        assert re.fullmatch(r"[a-z]([-.a-z0-9]{0,61}[a-z0-9])?", one["metadata"]["name"])


def volumes(manifest: Manifest) -> list[Manifest]:
    """Those of its pods."""
    found: list[Manifest] = manifest.get("spec", {}).get("template", {}).get("spec", {}).get("volumes", [])
    return found


def named(volume: Manifest) -> Iterator[tuple[str, str]]:
    """The objects that a volume needs."""
    if "configMap" in volume:
        yield "ConfigMap", volume["configMap"]["name"]
    if "secret" in volume:
        yield "Secret", volume["secret"]["secretName"]
    if "persistentVolumeClaim" in volume:
        yield "PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]
    for source in volume.get("projected", {}).get("sources", ()):
        yield from named(source)


def test_references(rendered: list[Manifest]) -> None:
    """What a pod names is there, or is an object of the user's; what is mounted is a volume."""
    there = {(m["kind"], m["metadata"]["name"]) for m in rendered} | YOURS
    for _, template in templates(rendered):
        spec = template["spec"]
        assert {one for volume in spec.get("volumes", ()) for one in named(volume)} <= there
        if spec.get("serviceAccountName", "default") != "default":
            assert ("ServiceAccount", spec["serviceAccountName"]) in there
        mounted: set[str] = set()
        for one in containers(spec).values():
            mounted |= {m["name"] for m in one.get("volumeMounts", ())}
            needed = {
                ("Secret", m["secretRef"]["name"])
                for m in one.get("envFrom", ())
                if not m["secretRef"].get("optional")
            }
            assert needed <= there
        assert mounted == {v["name"] for v in spec.get("volumes", ())}, (
            "no volume is missing, none is for nothing"
        )
    for manifest in rendered:
        if target := manifest.get("spec", {}).get("scaleTargetRef"):
            assert ("Deployment", target["name"]) in there


def selected(manifest: Manifest, rendered: list[Manifest]) -> list[Manifest]:
    """The pods, or for a ServiceMonitor the Services, that a selector selects."""
    selector = manifest["spec"].get("selector", manifest["spec"].get("podSelector"))
    expected = selector if manifest["kind"] == "Service" else selector["matchLabels"]
    assert expected
    targets = (
        [m["metadata"] for m in rendered if m["kind"] == "Service"]
        if manifest["kind"] == "ServiceMonitor"
        else [template["metadata"] for _, template in templates(rendered)]
    )
    return [one for one in targets if expected.items() <= one.get("labels", {}).items()]


def test_selectors(rendered: list[Manifest]) -> None:
    """Each selects something, a Deployment its own pods and nobody else's.

    A Service only pods that have its ports.
    """
    for manifest in rendered:
        if manifest["kind"] not in SELECTING:
            continue
        found = selected(manifest, rendered)
        assert found, manifest["metadata"]["name"]
        if manifest["kind"] in ("Deployment", "DaemonSet"):
            assert [manifest["spec"]["template"]["metadata"]] == found
        if manifest["kind"] == "Service":
            expected = {port["targetPort"] for port in manifest["spec"]["ports"]}
            for _, template in templates(rendered):
                if template["metadata"] in found:
                    ports = {
                        p["name"] for one in template["spec"]["containers"] for p in one.get("ports", ())
                    }
                    assert expected <= ports


def test_ports(rendered: list[Manifest]) -> None:
    """Probes, Services and NetworkPolicies mean ports that are there; the plugin listens on the second."""
    texts = {
        m["metadata"]["name"]: m["data"]["preload.yaml"]
        for m in rendered
        if "preload.yaml" in m.get("data", {})
    }
    for deployed in deployments(rendered):
        spec = deployed["spec"]["template"]["spec"]
        one = containers(spec)["comfyui"]
        ports = {port["name"]: port["containerPort"] for port in one["ports"]}
        (name,) = (v["configMap"]["name"] for v in spec["volumes"] if v["name"] == "config")
        assert {"http": 8188, "probe": validate(parse(texts[name])).options.probe.port} == ports
        probes = {kind: one[kind]["httpGet"] for kind in ("startupProbe", "readinessProbe", "livenessProbe")}
        assert {
            "startupProbe": {"path": "/ready", "port": "probe"},
            "readinessProbe": {"path": "/ready", "port": "probe"},
            "livenessProbe": {"path": "/livez", "port": "http"},
        } == probes, "liveness looks at the server itself"
    known = {
        p["name"]
        for _, t in templates(rendered)
        for one in t["spec"]["containers"]
        for p in one.get("ports", ())
    }
    for manifest in rendered:
        if manifest["kind"] == "NetworkPolicy":
            assert {p["port"] for rule in manifest["spec"]["ingress"] for p in rule["ports"]} <= known


def test_settings(rendered: list[Manifest], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each preload.yaml has no problem, and the pod looks for it where it is."""
    monkeypatch.setenv("POD_IP", "10.1.2.3")
    for manifest in rendered:
        if "preload.yaml" in manifest.get("data", {}):
            found = validate(parse(manifest["data"]["preload.yaml"]))
            assert () == found.problems
            assert [()] * len(found.entries) == [entry.problems for entry in found.entries]
            assert [()] * len(found.workflows) == [source.problems for source in found.workflows]
    for deployed in deployments(rendered):
        one = containers(deployed["spec"]["template"]["spec"])["comfyui"]
        (mount,) = (m for m in one["volumeMounts"] if m["name"] == "config")
        assert {"name": "PRELOAD_CONFIG", "value": f"{mount['mountPath']}/preload.yaml"} in one["env"]


def test_chart_and_overlays_agree() -> None:
    """Without values of one's own the pod is the same, whichever way it is deployed."""
    ours, theirs = chart({"token": "x"}), overlay("plain")
    one, other = container(ours), container(theirs)
    same = one.keys() - {"env", "image", "imagePullPolicy"}

    assert {key: one[key] for key in same} == {key: other[key] for key in same}
    for key in ("terminationGracePeriodSeconds", "securityContext", "enableServiceLinks"):
        assert pod(ours)[key] == pod(theirs)[key]
    free = {"imagePullPolicy": None, "image": None, "volumeMounts": None}
    assert containers(pod(ours))["prune"] | free == containers(pod(theirs))["prune"] | free
    cached = containers(pod(chart({"nodeCache": {"enabled": True}})))["copy-models"]
    assert cached | free == containers(pod(overlay("keda")))["copy-models"] | free
    assert "ClientIP" == service(theirs)["spec"]["sessionAffinity"]


def test_copies() -> None:
    """Files that Helm and kustomize want in their own folders. If this fails: python -m tools.chart."""
    for copy, original in COPIES.items():
        assert original.read_bytes() == copy.read_bytes(), copy


@pytest.mark.parametrize("way", RENDERED)
def test_scripts(way: str) -> None:
    """A container that runs a script mounts its ConfigMap, and it is the script that other tests try."""
    scripts = {
        name: m["data"]
        for m in RENDERED[way]()
        if m["kind"] == "ConfigMap"
        for name in [m["metadata"]["name"]]
        if m.get("data")
    }
    for _, template in templates(RENDERED[way]()):
        for one in containers(template["spec"]).values():
            for path in re.findall(r"/scripts/([\w.-]+)", str(one.get("command", ""))):
                (mount,) = (m for m in one["volumeMounts"] if m["mountPath"] == "/scripts")
                (volume,) = (v for v in template["spec"]["volumes"] if v["name"] == mount["name"])
                held = scripts[volume["configMap"]["name"]]
                (original, *_) = [o for c, o in COPIES.items() if path in (c.name, o.name)] or [
                    KUSTOMIZE.parent / "helm" / "comfyui-preload" / "files" / path
                ]
                if path != "models.json":
                    assert original.read_text(encoding="utf-8") == held[path]
                else:
                    assert path in held


def test_new_settings_start_new_pods() -> None:
    """A change of preload.yaml or a workflow changes the pod; nothing else of the release does.

    So too with kustomize.
    """

    def annotations(**values: Any) -> dict[str, str]:
        found: dict[str, str] = deployment(chart(values))["spec"]["template"]["metadata"]["annotations"]
        return found

    plain = annotations()
    assert plain != annotations(preload={"drain": 1})
    assert plain != annotations(workflows={"a.json": "{}"})
    assert plain == annotations(token="x")  # noqa: S106 — not a token
    assert plain == annotations(models={"size": "200Gi"})
    for strategy in ("reload", "none"):
        assert "checksum/config" not in annotations(reloadStrategy=strategy, token="x")  # noqa: S106
    assert re.fullmatch(r"comfyui-preload-[a-z0-9]{10}", config(overlay("hpa"))["metadata"]["name"])


@pytest.mark.parametrize("version", VERSIONS)
def test_helm_test(version: str) -> None:
    """The pod of `helm test` is valid, and asks the Service under the name and port that it has."""
    (one,) = hooks()
    kubernetes_validate.validate(one, version, strict=True)
    found = service(chart())
    port = found["spec"]["ports"][0]["port"]

    assert f"http://{found['metadata']['name']}:{port}" == one["spec"]["containers"][0]["command"][-1]
    assert LOCKED == one["spec"]["containers"][0]["securityContext"]


def test_namespace() -> None:
    """The overlays make their namespace, at the level of Pod Security that they need."""
    levels = {
        name: the("Namespace", overlay(name))["metadata"]["labels"] for name in ("plain", "hpa", "keda")
    }

    assert ["restricted", "restricted", "privileged"] == [
        one["pod-security.kubernetes.io/enforce"] for one in levels.values()
    ]
