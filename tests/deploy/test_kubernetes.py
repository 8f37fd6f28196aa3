"""deploy/kubernetes and deploy/helm: rendered by the real programs, valid for the API, and one object fits the other."""

from __future__ import annotations

import re

import kubernetes_validate
import pytest

from tests.deploy.manifests import (
    KUSTOMIZE,
    RENDERED,
    Manifest,
    chart,
    config,
    container,
    is_built_in,
    overlay,
    pod,
    settled,
    the,
)

VERSIONS = ("1.30", "1.37")
"""The oldest that has `preStop.sleep` without a feature gate, and the newest that kubernetes-validate knows."""


@pytest.fixture(params=RENDERED)
def rendered(request: pytest.FixtureRequest) -> list[Manifest]:
    """What is applied to a cluster, in each way that we ship."""
    return RENDERED[request.param]()


@pytest.mark.parametrize("version", VERSIONS)
def test_schema(rendered: list[Manifest], version: str) -> None:
    """Every object is one that this Kubernetes knows, without a field that it does not know."""
    for manifest in filter(is_built_in, rendered):
        kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize("version", VERSIONS)
def test_schema_finds_mistakes(version: str) -> None:
    """The test above can fail: a misspelt field, a wrong type."""
    for spoil in ({"minReadySecond": 1}, {"minReadySeconds": "x"}):
        spoilt = {**the("Deployment", chart()), "spec": {**the("Deployment", chart())["spec"], **spoil}}
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(spoilt, version, strict=True)


def test_kinds(rendered: list[Manifest]) -> None:
    """Nothing is missing, nothing is there twice, and at most one scales."""
    kinds = [manifest["kind"] for manifest in rendered]

    assert {"Deployment", "Service", "ConfigMap", "PodDisruptionBudget"} <= set(kinds)
    assert len(rendered) == len({(m["kind"], m["metadata"]["name"]) for m in rendered})
    scalers = [kind for kind in kinds if kind in ("HorizontalPodAutoscaler", "ScaledObject")]
    assert len(scalers) <= 1
    assert bool(scalers) != ("replicas" in the("Deployment", rendered)["spec"]), (
        "an autoscaler and a number would fight"
    )


def test_references(rendered: list[Manifest]) -> None:
    """What the pod names is there, or is an object of the user's; what is mounted is a volume; what selects, selects the pod."""
    there = {(m["kind"], m["metadata"]["name"]) for m in rendered} | {
        ("Secret", "comfyui-token"),  # examples/gpu.yaml
        ("PersistentVolumeClaim", "models"),
    }
    spec = pod(rendered)
    for volume in spec["volumes"]:
        if "configMap" in volume:
            assert ("ConfigMap", volume["configMap"]["name"]) in there
        if "persistentVolumeClaim" in volume:
            assert ("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]) in there
    for one in (*spec.get("initContainers", ()), *spec["containers"]):
        assert {m["name"] for m in one["volumeMounts"]} <= {v["name"] for v in spec["volumes"]}
        for variable in one.get("env", ()):
            if "secretKeyRef" in variable.get("valueFrom", {}):
                assert ("Secret", variable["valueFrom"]["secretKeyRef"]["name"]) in there
    assert 1 == len({one["image"] for one in (*spec.get("initContainers", ()), *spec["containers"])})

    labels = the("Deployment", rendered)["spec"]["template"]["metadata"]["labels"]
    for manifest in rendered:
        below = manifest.get("spec", {})
        selector = below.get("selector", below.get("podSelector"))
        assert selector or manifest["kind"] not in (
            "Deployment",
            "Service",
            "PodDisruptionBudget",
            "NetworkPolicy",
            "ServiceMonitor",
        )
        if selector is not None:
            wanted = selector if manifest["kind"] == "Service" else selector["matchLabels"]
            assert wanted
            target = (
                the("Service", rendered)["metadata"]["labels"]
                if manifest["kind"] == "ServiceMonitor"
                else labels
            )
            assert wanted.items() <= target.items(), manifest["kind"]
        if "scaleTargetRef" in below:
            assert ("Deployment", below["scaleTargetRef"]["name"]) in there


def test_ports(rendered: list[Manifest]) -> None:
    """Probes, Service, NetworkPolicy and ServiceMonitor mean the same two ports, and the plugin listens on the second."""
    one = container(rendered)
    ports = {port["name"]: port["containerPort"] for port in one["ports"]}

    assert {"http": 8188, "probe": settled(rendered).options.probe.port} == ports
    assert {"probe"} == {
        one[kind]["httpGet"]["port"] for kind in ("startupProbe", "readinessProbe", "livenessProbe")
    }
    assert ["/ready", "/ready", "/livez"] == [
        one[kind]["httpGet"]["path"] for kind in ("startupProbe", "readinessProbe", "livenessProbe")
    ]
    service = {port["name"]: port["targetPort"] for port in the("Service", rendered)["spec"]["ports"]}
    assert {"http": "http", "probe": "probe"} == service
    for manifest in rendered:
        if manifest["kind"] == "NetworkPolicy":
            assert [["http"], ["probe"]] == [
                [p["port"] for p in rule["ports"]] for rule in manifest["spec"]["ingress"]
            ]


def test_locked_down(rendered: list[Manifest]) -> None:
    """Pod Security level `restricted`, but for the hostPath of the node cache; and a root file system that is read only."""
    spec = pod(rendered)

    assert spec["automountServiceAccountToken"] is False
    assert {
        "runAsNonRoot": True,
        "runAsUser": 1000,
        "seccompProfile": {"type": "RuntimeDefault"},
    }.items() <= spec["securityContext"].items()
    for one in (*spec.get("initContainers", ()), *spec["containers"]):
        assert {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        } == one["securityContext"]
        assert "memory" in one["resources"]["limits"]
    assert {"persistentVolumeClaim", "emptyDir", "configMap", "hostPath"} >= {
        key for v in spec["volumes"] for key in v
    } - {"name"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
    models = {m["name"]: m for m in container(rendered)["volumeMounts"]}["models"]
    assert models["readOnly"] is True


def test_settings(rendered: list[Manifest]) -> None:
    """The preload.yaml that the pod reads has no problem, and the pod looks for it where it is."""
    found = settled(rendered)

    assert () == found.problems
    assert [()] * len(found.entries) == [entry.problems for entry in found.entries]
    assert [()] * len(found.workflows) == [source.problems for source in found.workflows]
    (mount,) = (m for m in container(rendered)["volumeMounts"] if m["name"] == "config")
    assert {"name": "PRELOAD_CONFIG", "value": f"{mount['mountPath']}/preload.yaml"} in container(rendered)[
        "env"
    ]


def test_chart_and_overlays_agree() -> None:
    """Without values of one's own the pod is the same, whichever way it is deployed."""
    one, other = container(chart()), container(overlay("hpa"))
    same = one.keys() - {"env", "image", "imagePullPolicy"}

    assert {key: one[key] for key in same} == {key: other[key] for key in same}
    assert (
        pod(chart())["terminationGracePeriodSeconds"] == pod(overlay("hpa"))["terminationGracePeriodSeconds"]
    )
    assert pod(chart())["securityContext"] == pod(overlay("hpa"))["securityContext"]
    cached = pod(chart({"nodeCache": {"enabled": True}}))["initContainers"][0]
    assert cached | {"imagePullPolicy": None} == pod(overlay("keda"))["initContainers"][0] | {
        "imagePullPolicy": None
    }


@pytest.mark.parametrize("way", ["chart, gpu", "overlay keda"])
def test_script(way: str) -> None:
    """The node cache runs the very script that test_copy_models tries, and it is where the command says."""
    script = (KUSTOMIZE / "components" / "node-cache" / "copy-models.sh").read_text(encoding="utf-8")
    (held,) = (m for m in RENDERED[way]() if m["kind"] == "ConfigMap" and "preload.yaml" not in m["data"])
    (one,) = pod(RENDERED[way]())["initContainers"]
    mounts = {mount["name"]: mount["mountPath"] for mount in one["volumeMounts"]}

    assert {"copy-models.sh": script} == held["data"]
    assert [
        "/bin/sh",
        f"{mounts['copy-models']}/copy-models.sh",
        mounts["models-source"],
        mounts["models"],
    ] == one["command"]


def test_new_settings_start_new_pods() -> None:
    """A change of preload.yaml changes the pod: by a checksum in the chart, by the ConfigMap's name with kustomize."""
    one, other = (
        the("Deployment", chart({"preload": {"drain": drain}}))["spec"]["template"]["metadata"]["annotations"]
        for drain in (1, 2)
    )

    assert one != other
    assert re.fullmatch(r"comfyui-preload-[a-z0-9]{10}", config(overlay("hpa"))["metadata"]["name"])
