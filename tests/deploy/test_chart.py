"""Values of the chart.

Odd names arrive as they are, bad ones are refused with a reason, all are explained.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from comfy_preload.core.workflow.locate import locate
from tests.deploy.manifests import (
    ALL_ON,
    CHART,
    DOWNLOAD,
    EXAMPLES,
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
from tests.deploy.tools import helm
from tools.chart import README, Value, readme_text
from tools.chart import values as table_rows
from tools.schema import VALUES, values_text

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


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, "None"),
        ({"autoscaling": {"replicas": 2}}, "ClientIP"),
        ({"autoscaling": {"kind": "hpa"}}, "ClientIP"),
        ({"autoscaling": {"replicas": 2}, "service": {"sessionAffinity": "None"}}, "None"),
    ],
)
def test_session_affinity(values: dict[str, Any], expected: str) -> None:
    """A client stays with one replica wherever there can be two."""
    assert expected == service(chart(values))["spec"]["sessionAffinity"]


def test_sessions_from_outside() -> None:
    """Without the gateway a cookie at the Ingress and at the HTTPRoute; with it, the gateway's own."""
    outside = {
        "ingress": {"enabled": True, "hosts": [{"host": "a.example.com"}]},
        "httpRoute": {"enabled": True, "parentRefs": [{"name": "g"}]},
    }
    plain = chart(outside)
    assert (
        "cookie" == the("Ingress", plain)["metadata"]["annotations"]["nginx.ingress.kubernetes.io/affinity"]
    )
    (rule,) = the("HTTPRoute", plain)["spec"]["rules"]
    assert {"type": "Cookie", "sessionName": "replica"} == rule["sessionPersistence"]

    through = chart({**outside, "gateway": {"enabled": True}, "redis": {"enabled": True}})
    assert "nginx.ingress.kubernetes.io/affinity" not in the("Ingress", through)["metadata"]["annotations"]
    (rule,) = the("HTTPRoute", through)["spec"]["rules"]
    assert "sessionPersistence" not in rule
    (backend,) = rule["backendRefs"]
    assert backend == {"name": "demo-comfyui-preload-gateway", "port": 80}
    (path,) = the("Ingress", through)["spec"]["rules"][0]["http"]["paths"]
    assert {"name": "demo-comfyui-preload-gateway", "port": {"number": 80}} == path["backend"]["service"]


def test_gateway_alone_is_let_in() -> None:
    """With the gateway, nobody else reaches the replicas; only replicas write to Redis."""
    rendered = chart({"gateway": {"enabled": True}, "redis": {"enabled": True}})
    policies = {m["metadata"]["name"]: m["spec"] for m in rendered if m["kind"] == "NetworkPolicy"}
    peers = [
        p["podSelector"]["matchLabels"]["app.kubernetes.io/component"]
        for name in ("", "-redis")
        for p in policies[f"demo-comfyui-preload{name}"]["ingress"][0]["from"]
    ]

    assert ["gateway", "comfyui"] == peers
    assert [] == policies["demo-comfyui-preload-redis"]["egress"]


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


@pytest.mark.parametrize(
    ("release", "values", "name"),
    [
        ("2024", {}, "r2024-comfyui-preload"),
        ("comfyui-preload", {}, "comfyui-preload"),
        ("my.release", {}, "my-release-comfyui-preload"),
        ("x", {"nameOverride": "comfy"}, "x-comfy"),
        ("x", {"fullnameOverride": "1st"}, "r1st"),
        ("a" * 53, {}, None),
        ("x", {"fullnameOverride": f"{'b' * 60}-cc"}, None),
        ("a" * 52 + "1", {"pools": {"abcdefghijklmnopqrst": None}, "models": {"download": [DOWNLOAD]}}, None),
    ],
    ids=lambda value: str(value)[:20],
)
def test_release_names(release: str, values: dict[str, Any], name: str | None) -> None:
    """Whatever a release is called, every object has a name that its kind may have, and labels are texts."""
    rendered = chart(values, release=release)
    for one in rendered:
        kubernetes_validate.validate(one, "1.37", strict=True)
        assert re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", one["metadata"]["name"]), one["metadata"][
            "name"
        ]
        assert all(
            isinstance(value, str) and len(value) <= 63 for value in one["metadata"]["labels"].values()
        )
    if name:
        assert name == deployment(rendered)["metadata"]["name"]
    others = {one["metadata"]["name"] for one in chart(values, release=f"{release[:-1]}z")}
    assert "fullnameOverride" in values or not others & {one["metadata"]["name"] for one in rendered}


def test_release_name_too_long() -> None:
    """Helm itself refuses it."""
    with pytest.raises(AssertionError, match="the length must not be longer than 53"):
        chart(release="a" * 63)


@pytest.mark.parametrize(
    ("given", "expected"), [("-", ""), ("fast", "fast"), ("", None), ("with space", "with space")]
)
def test_storage_class(given: str, expected: str | None) -> None:
    claim = the("PersistentVolumeClaim", chart({"models": {"storageClassName": given}}))

    assert expected == claim["spec"].get("storageClassName")


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


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"modelBytes": "24GB"}, "at '/modelBytes': got string, want number"),
        ({"storageSpeed": 500}, "at '/storageSpeed': minimum: got 500, want 1"),
        ({"importSeconds": 0}, "at '/importSeconds': exclusiveMinimum"),
        ({"modelByte": 1}, "additional properties 'modelByte' not allowed"),
        ({"preload": {"drain": -1}}, "at '/preload/drain': minimum: got -1, want 0"),
        ({"preload": {"drain": "25s"}}, "at '/preload/drain': got string, want number"),
        (
            {"preload": {"on_error": "restart"}},
            "at '/preload/on_error': value must be one of 'unready', 'serve', 'exit'",
        ),
        ({"preload": {"probe": {"port": 8188}}}, "at '/preload/probe/port': 'not' failed"),
        ({"preload": {"probe": {"port": 80}}}, "at '/preload/probe/port': minimum: got 80, want 1,024"),
        ({"preload": {"models": "flux"}}, "at '/preload/models': got string, want array"),
        (
            {"preload": {"timeout": 30}},
            "preload.timeout is 30, but modelBytes / storageSpeed + warmupSeconds is 78 s",
        ),
        ({"modelBytes": 10**14}, "loading would take 200030 s"),
        ({"workflows": {"模型.json": "{}"}}, "invalid propertyName '模型.json'"),
        (
            {"autoscaling": {"kind": "cpu"}},
            "at '/autoscaling/kind': value must be one of 'none', 'hpa', 'keda'",
        ),
        ({"preload": {"modles": []}}, "at '/preload': additional properties 'modles' not allowed"),
        ({"preload": {"models": [{"unet": 5}]}}, "at '/preload/models/0/unet': got number, want string"),
        ({"pools": {"a": {"modelByte": 1}}}, "at '/pools/a': additional properties 'modelByte' not allowed"),
        ({"pools": {"a": {"token": "x"}}}, "at '/pools/a': additional properties 'token' not allowed"),
        ({"pools": {"Big": {}}}, "at '': invalid propertyName 'Big'"),
        ({"extraVolumes": {}}, "at '/extraVolumes': got object, want array"),
        (
            {"models": {"download": [{"url": "ftp://x", "path": "a"}]}},
            "at '/models/download/0/url': 'ftp://x' does not match",
        ),
        (
            {"models": {"download": [{"url": "hf://a/b/c", "path": "/a"}]}},
            "at '/models/download/0/path': '/a' does not match",
        ),
        ({"image": {"digest": "sha256:1"}}, "at '/image/digest': 'sha256:1' does not match pattern"),
        ({"podLabels": {"a": 1}}, "at '/podLabels/a': got number, want string"),
        ({"models": {"size": "a lot"}}, "at '/models/size': 'a lot' does not match pattern"),
        ({"nodeCache": {"path": "nvme"}}, "at '/nodeCache/path': 'nvme' does not match pattern"),
        ({"rollingUpdate": {"maxSurge": "1x"}}, "at '/rollingUpdate/maxSurge': '1x' does not match pattern"),
    ],
    ids=lambda value: json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else "",
)
def test_bad_values(values: dict[str, Any], words: str) -> None:
    """Helm refuses them, and says where and why."""
    with pytest.raises(AssertionError) as refused:
        chart(values)

    assert words in str(refused.value)


SCHEMA = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
PLAIN = {"string": 1.5, "number": "x", "integer": "x", "boolean": "x", "array": 1.5, "object": 1.5}
"""A type, and something that is not of it."""


def resolved(one: dict[str, Any]) -> dict[str, Any]:
    """A schema, or what its $ref leads to."""
    while "$ref" in one:
        path, one = one["$ref"], SCHEMA
        for part in path.removeprefix("#/").split("/"):
            one = one[part]
    return one


def _leaves(schema: dict[str, Any], at: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """Every key of the values that has a plain type and no keys below it."""
    for key, one in schema["properties"].items():
        found = resolved(one)
        if key == "preload":
            continue
        if "properties" in found:
            yield from _leaves(found, (*at, key))
        elif str(found.get("type")) in PLAIN:
            yield (*at, key), found["type"]


def test_every_wrong_type_is_found() -> None:
    """Each value, replaced by one of another type, is refused at its place; all in one run."""
    wrong: dict[str, Any] = {}
    leaves = list(_leaves(SCHEMA))
    for key, kind in leaves:
        level = wrong
        for part in key[:-1]:
            level = level.setdefault(part, {})
        level[key[-1]] = PLAIN[kind]
    with pytest.raises(AssertionError) as refused:
        chart(wrong)

    assert len(leaves) > 120
    assert [] == [key for key, _ in leaves if f"at '/{'/'.join(key)}': got" not in str(refused.value)]


REDIS = {"redis": "redis://redis:6379", "advertise": "http://${POD_IP}:8188"}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (
            {"models": {"accessModes": ["ReadWriteOnce"]}, "autoscaling": {"replicas": 3}},
            "is for one node, but there may be 3 replicas",
        ),
        (
            {"models": {"accessModes": ["ReadWriteOnce"]}, "autoscaling": {"kind": "hpa"}},
            "is for one node, but there may be 8 replicas",
        ),
        (
            {"autoscaling": {"kind": "hpa", "minReplicas": 9}},
            "autoscaling.maxReplicas is 8, less than minReplicas, 9",
        ),
        ({"autoscaling": {"kind": "hpa", "minReplicas": 0}}, "autoscaling.minReplicas 0 needs kind keda"),
        ({"autoscaling": {"kind": "keda", "minReplicas": 0}}, "so nothing would start a replica"),
        ({"autoscaling": {"kind": "keda"}}, "asks Prometheus for figures that nobody scrapes"),
        ({"rollingUpdate": {"maxSurge": 0}}, "maxSurge and maxUnavailable are both 0"),
        (
            {"rollingUpdate": {"maxSurge": "0%", "maxUnavailable": "0%"}},
            "maxSurge and maxUnavailable are both 0",
        ),
        (
            {"user": {"existingClaim": "x"}, "autoscaling": {"replicas": 2}},
            "ComfyUI's database there is for one process",
        ),
        ({"nodeCache": {"enabled": True}, "models": {"image": "x"}}, "nodeCache copies from a claim"),
        ({"models": {"image": "x", "inImage": True}}, "choose one"),
        ({"models": {"image": "x", "download": [DOWNLOAD]}}, "models.download fills a claim"),
        (
            {"models": {"accessModes": ["ReadWriteOnce"], "downloadAs": "job", "download": [DOWNLOAD]}},
            "would wait for each other",
        ),
        ({"reloadStrategy": "reload"}, "sends a command: set token or existingSecret"),
        ({"gateway": {"enabled": True}}, "gateway.enabled needs the registry"),
        ({"preload": {"registry": REDIS}}, "Redis would be out of reach"),
        (
            {"preload": {"registry": {**REDIS, "redis": "redis://:secret@r"}}, "redis": {"enabled": True}},
            "holds a password",
        ),
        (
            {"preload": {"workflows": [{"path": "a", "overrides": {"3.seed": 1234567890123456789}}]}},
            "preload.workflows[0].overrides.3.seed is a number that Helm cannot keep exactly",
        ),
        ({"pools": {"a": {}, "b": {"rollingUpdate": {"maxSurge": 0}}}}, "pools.b: rollingUpdate"),
        (
            {"pools": {"a": {}, "b": {}}, "ingress": {"enabled": True, "hosts": [{"host": "x"}]}},
            "enable the gateway, or name the pool",
        ),
        ({"pools": {"a": {}}, "httpRoute": {"enabled": True, "pool": "c"}}, 'there is no pool "c": a'),
    ],
    ids=str,
)
def test_what_cannot_work(values: dict[str, Any], words: str) -> None:
    """Combinations that would hang or lose something are refused with a sentence that says what to change."""
    with pytest.raises(AssertionError) as refused:
        chart(values)

    assert words in str(refused.value)


@pytest.mark.parametrize("example", ["", *EXAMPLES])
def test_lint(example: str) -> None:
    """`helm lint --strict` has nothing to say."""
    values = ["--values", str(CHART / "examples" / f"{example}.yaml")] if example else []
    said = helm("lint", "--strict", str(CHART), *values)

    assert "1 chart(s) linted, 0 chart(s) failed" in said
    assert not re.search(r"WARNING|ERROR", said)


def notes(*words: str) -> str:
    return helm("install", "demo", str(CHART), "--dry-run=client", *words).partition("NOTES:")[2]


def test_notes() -> None:
    """What helm says after an installation has the worked-out numbers in it, and what is still to be done."""
    said = notes()

    assert "It has 196 s for that, of which loading may take 156 s" in said
    assert "300 s to finish, and the pod 315 s in all" in said
    for words in ("nothing is loaded", "is new and empty", "No token", "ComfyUI has no login"):
        assert words in said
    assert "more than one replica without the gateway" in notes("--set", "autoscaling.replicas=2")
    assert "Pool flux" in notes("--values", str(CHART / "examples" / "pools.yaml"))


def test_every_value_is_explained() -> None:
    """values.yaml has every key that the schema knows, and README.md has it with what it means."""
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))

    assert SCHEMA["properties"].keys() == values.keys()
    for key, value in values.items():
        allowed = resolved(SCHEMA["properties"][key])
        if allowed.get("additionalProperties") is False and key != "pools":
            assert allowed["properties"].keys() == value.keys(), key
    assert readme_text() == README.read_text(encoding="utf-8"), "run: python -m tools.chart"
    explained = [
        one.key
        for one in table_rows((CHART / "values.yaml").read_text(encoding="utf-8"))
        if isinstance(one, Value)
    ]
    assert values.keys() <= set(explained)


def test_schema_of_the_settings() -> None:
    """The chart checks `preload` by the plugin's own schema."""
    assert values_text() == VALUES.read_text(encoding="utf-8"), "run: python -m tools.schema"
