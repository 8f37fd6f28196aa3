"""Values of the chart.

Odd names arrive as they are, bad ones are refused with a reason, all are explained.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from comfy_preload.core.workflow.locate import locate
from tests.deploy.manifests import (
    ALL_ON,
    DOWNLOAD,
    KUSTOMIZE,
    WORKFLOW,
    chart,
    config,
    container,
    containers,
    deployment,
    deployments,
    example,
    kustomized,
    pod,
    service,
    settled,
    the,
    walk,
)

ODD = [
    "模型 一.safetensors",
    'it\'s "quoted" {{ .Values.x }}.safetensors',
    "#a: b, [c] & *d.safetensors",
    "off",
    "1e3",
    "<b>&amp;.pt",
    "é\\n.pt",
]


def test_odd_names_in_the_chart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names with blanks, quotes, Chinese characters and YAML's own characters arrive as they were given."""
    models = [{"unet": name, "name": f"n {i}"} for i, name in enumerate(ODD)]
    workflow = json.dumps({"1": {"inputs": {"ckpt_name": ODD[0]}}}, ensure_ascii=False)
    monkeypatch.setenv("POD_IP", "10.1.2.3")
    registry = {"redis": "redis://redis:6379", "advertise": "http://${POD_IP}:8188"}
    network = {"egress": [{"to": [{"podSelector": {}}]}]}
    overrides = {"3.text": "{{ danger }}: 'x' \"y\" 模型", "3.seed": 1125899906842624}
    preload = {
        "models": models,
        "registry": registry,
        "workflows": [{"path": "w.json", "overrides": overrides}],
    }
    rendered = chart({"preload": preload, "workflows": {"w.json": workflow}, "networkPolicy": network})
    found = settled(rendered)

    assert ODD == [entry.inputs["unet_name"] for entry in found.entries]
    assert () == found.problems
    assert "http://10.1.2.3:8188" == (found.options.registry and found.options.registry.advertise)
    assert overrides == found.workflows[0].given.overrides
    assert workflow == config(rendered)["data"]["w.json"]


def test_odd_names_in_the_overlay(tmp_path: Path) -> None:
    """The same through kustomize: a file is taken byte by byte."""
    text = yaml.safe_dump(
        {"probe": {"port": 9188}, "models": [{"unet": name} for name in ODD]}, allow_unicode=True
    )
    (tmp_path / "preload.yaml").write_text(text, encoding="utf-8")
    (tmp_path / "w.json").write_text(WORKFLOW, encoding="utf-8")
    generator = {"name": "comfyui-preload", "behavior": "replace", "files": ["preload.yaml", "w.json"]}
    base = os.path.relpath(KUSTOMIZE / "overlays" / "hpa", tmp_path)
    # Namespaces must agree for the one to replace the other.
    own = {"resources": [base], "namespace": "comfyui", "configMapGenerator": [generator]}
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(own), encoding="utf-8")
    rendered = kustomized(tmp_path)

    assert ODD == [entry.inputs["unet_name"] for entry in settled(rendered).entries]
    assert WORKFLOW == config(rendered)["data"]["w.json"]


def test_workflows_are_found_beside_the_settings(tmp_path: Path) -> None:
    """As the kubelet lays out a ConfigMap: every file is a link into a hidden folder."""
    (tmp_path / "..2026").mkdir()
    (tmp_path / "..data").symlink_to("..2026")
    for name, text in config(chart(ALL_ON))["data"].items():
        (tmp_path / "..2026" / name).write_text(text, encoding="utf-8")
        (tmp_path / name).symlink_to(f"..data/{name}")
    (entry,) = settled(chart(ALL_ON)).workflows

    assert ["b.json", "sdxl.json"] == [name for name, _ in locate(entry.given.path, [tmp_path])]


def test_token() -> None:
    """In a Secret, mounted as a file, never in the ConfigMap.

    Without one nothing is mounted; a Secret of one's own is named.
    """
    rendered = chart(ALL_ON)
    assert ALL_ON["token"] == the("Secret", rendered)["stringData"]["PRELOAD_TOKEN"]
    assert not any(ALL_ON["token"] in str(m) for m in rendered if m["kind"] != "Secret")
    (file,) = (v["value"] for v in container(rendered)["env"] if v["name"] == "PRELOAD_TOKEN_FILE")
    assert file.rpartition("/")[0] in {m["mountPath"] for m in container(rendered)["volumeMounts"]}

    assert {"PRELOAD_CONFIG", "POD_IP"} == {variable["name"] for variable in container(chart())["env"]}
    mine = chart({"token": "x", "existingSecret": "mine"})
    assert "Secret" not in {m["kind"] for m in mine}
    assert "mine" in list(walk(pod(mine)["volumes"]))


@pytest.mark.parametrize("name", ["cpu", "amd"])
def test_no_nvidia(name: str) -> None:
    """No NVIDIA GPU is asked for."""
    assert not any("nvidia.com" in str(value) for value in walk(container(example(name))))


def test_everything_arrives() -> None:
    """What a chart is expected to take is where Kubernetes looks for it, as it was given."""
    rendered = chart(ALL_ON)
    spec, one = pod(rendered), container(rendered)
    template = deployment(rendered)["spec"]["template"]["metadata"]

    for key in (
        "nodeSelector",
        "tolerations",
        "affinity",
        "topologySpreadConstraints",
        "hostAliases",
        "dnsConfig",
    ):
        assert ALL_ON[key] == spec[key]
    for key in ("runtimeClassName", "priorityClassName", "schedulerName", "dnsPolicy", "resourceClaims"):
        assert ALL_ON[key] == spec[key]
    assert [{"name": "registry"}, {"name": "other"}] == spec["imagePullSecrets"]
    assert f"ghcr.io/me/app@sha256:{'0' * 64}" == one["image"]
    assert ALL_ON["envFrom"] == one["envFrom"]
    assert {"TZ", "OLD"} < {v["name"] for v in one["env"]}
    assert ALL_ON["initContainers"][0] == spec["initContainers"][0]
    assert ALL_ON["sidecars"][0] in spec["containers"]
    assert ALL_ON["extraVolumes"][0] in spec["volumes"]
    assert ALL_ON["extraVolumeMounts"][0] in one["volumeMounts"]
    assert {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "8Gi"}} in spec["volumes"]
    assert {"name": "output", "mountPath": "/data/output", "subPath": "out"} in one["volumeMounts"]
    assert {"periodSeconds": 3, "httpGet": {"path": "/ready", "port": "probe"}}.items() <= one[
        "readinessProbe"
    ].items()
    assert {"team": "x", "owner": "y"}.items() <= template["labels"].items()
    assert "c" == template["annotations"]["a.example.com/b"]
    assert all(
        {"owner": "y"}.items() <= m["metadata"]["labels"].items()
        for m in rendered
        if "extra" not in m["metadata"]["name"] and m["metadata"]["name"] != "more"
    )
    assert {"demo-extra", "more"} < {m["metadata"]["name"] for m in rendered}
    found = service(rendered)
    assert "y" == found["metadata"]["annotations"]["x"]
    assert ["IPv6", "IPv4"] == found["spec"]["ipFamilies"]
    assert {"iam": "role", "note": "z"} == the("ServiceAccount", rendered)["metadata"]["annotations"]


def test_openshift() -> None:
    """Null takes a key of the security context away, and only that."""
    assert {"runAsNonRoot", "seccompProfile"} == pod(example("openshift"))["securityContext"].keys()


def test_spread() -> None:
    """Pods of one pool prefer different nodes."""
    (constraint,) = pod(chart())["topologySpreadConstraints"]

    assert ("kubernetes.io/hostname", "ScheduleAnyway") == (
        constraint["topologyKey"],
        constraint["whenUnsatisfiable"],
    )
    labels = deployment(chart())["spec"]["template"]["metadata"]["labels"]
    assert constraint["labelSelector"]["matchLabels"].items() <= labels.items()


def test_pools() -> None:
    """A pool is the values with its own written over them; 0, false and null count as well."""
    pools = {
        "big": {"autoscaling": {"replicas": 0}, "nodeCache": {"enabled": False}, "preload": {"drain": 0}},
        "small": {"resources": {"limits": {"nvidia.com/gpu": None}}, "modelBytes": 0, "warmupSeconds": 0},
    }
    rendered = chart({"pools": pools, "autoscaling": {"replicas": 3}, "nodeCache": {"enabled": True}})
    big, small = deployments(rendered)

    assert ["demo-comfyui-preload-big", "demo-comfyui-preload-small"] == [
        m["metadata"]["name"] for m in (big, small)
    ]
    assert [0, 3] == [m["spec"]["replicas"] for m in (big, small)]
    assert [False, True] == ["copy-models" in str(m) for m in (big, small)]
    assert [15, 315] == [m["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] for m in (big, small)]
    gpus = [
        m["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"].get("nvidia.com/gpu")
        for m in (big, small)
    ]
    assert [1, None] == gpus
    assert 2 == sum(m["kind"] == "Service" for m in rendered)


def test_many_models() -> None:
    """Two hundred models with blanks, quotes and Chinese characters in their names are all there."""
    names = [f"模型 '{i}' \"{i}\".safetensors" for i in range(200)]
    found = settled(chart({"preload": {"models": [{"vae": name} for name in names]}}))

    assert names == [entry.inputs["vae_name"] for entry in found.entries]


@pytest.mark.parametrize("off", [False, "off"])
def test_when_off(off: Any) -> None:
    """YAML reads a bare off as false; the plugin and the chart understand both."""
    assert "off" == settled(chart({"preload": {"when": off}})).options.when


def test_one_node() -> None:
    """A claim for one node: the old pod ends before the new one starts, whatever rollingUpdate says."""
    values = {"models": {"accessModes": ["ReadWriteOnce"]}}

    assert {"maxSurge": 0, "maxUnavailable": 1} == deployment(chart(values))["spec"]["strategy"][
        "rollingUpdate"
    ]
    assert {"maxSurge": 1, "maxUnavailable": 0} == deployment(chart())["spec"]["strategy"]["rollingUpdate"]


@pytest.mark.parametrize(
    ("models", "expected"),
    [
        ({}, "job"),
        ({"accessModes": ["ReadWriteOnce"]}, "init"),
        ({"existingClaim": "mine"}, "init"),
        ({"downloadAs": "init"}, "init"),
    ],
)
def test_download(models: dict[str, Any], expected: str) -> None:
    """A job where several nodes can mount the claim, and pods wait for it.

    Else an init container of the pod.
    """
    rendered = chart({"models": {"download": [DOWNLOAD], "downloadSecret": "hub", **models}})
    names = list(containers(pod(rendered)))

    assert (expected == "job") == any(m["kind"] == "Job" for m in rendered)
    assert {"job": "wait-for-models", "init": "download-models"}[expected] == names[0]
    assert (expected == "job") == ("--wait" in containers(pod(rendered))[names[0]]["command"])
    assert (expected == "init") == ("envFrom" in containers(pod(rendered))[names[0]]), (
        "only who downloads has the secret"
    )


def test_a_new_list_is_a_new_job() -> None:
    """A job cannot be changed: another list has another name, the same list the same."""
    jobs = [
        the("Job", chart({"models": {"download": [{**DOWNLOAD, "path": path}]}}))["metadata"]["name"]
        for path in "aba"
    ]

    assert jobs[0] == jobs[2] != jobs[1]
