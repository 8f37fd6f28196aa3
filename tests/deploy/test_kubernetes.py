"""deploy/kubernetes and deploy/helm: rendered by the real programs, valid for the API, and the numbers add up."""

from __future__ import annotations

import json
import math
import os
import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from preload_plugin.api import metrics
from preload_plugin.core.document import parse
from preload_plugin.core.locate import locate
from preload_plugin.core.settings import Settings, settle
from preload_plugin.tests.deploy import manifests
from preload_plugin.tests.deploy.manifests import CHART, KUSTOMIZE, Manifest, chart, config, container, overlay, pod, the, walk
from preload_plugin.tests.deploy.tools import helm
from preload_plugin.tests.support.prometheus import promtool
from preload_plugin.tests.support.snapshots import full

VERSIONS = ("1.30", "1.37")
"""The oldest that has `preStop.sleep` without a feature gate, and the newest that kubernetes-validate knows."""
PERIOD, PRE_STOP, TO_END = 5, 5, 10
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
    "serviceMonitor": True,
    "networkPolicy": {
        "from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}],
        "egress": [{"to": [{"podSelector": {"matchLabels": {"app": "redis"}}}], "ports": [{"port": 6379}]}],
    },
}
RENDERED = {
    "chart": lambda: chart(),
    "chart, all on": lambda: chart(ALL_ON),
    "chart, gpu": lambda: chart(None, CHART / "examples" / "gpu.yaml"),
    "chart, cpu": lambda: chart(None, CHART / "examples" / "cpu.yaml"),
    "overlay hpa": lambda: overlay("hpa"),
    "overlay keda": lambda: overlay("keda"),
}


@pytest.fixture(params=RENDERED)
def rendered(request: pytest.FixtureRequest) -> list[Manifest]:
    """What is applied to a cluster, in each way that we ship."""
    return RENDERED[request.param]()


def settled(rendered: list[Manifest]) -> Settings:
    return settle(parse(manifests.settings(rendered)))


def is_ours(manifest: Manifest) -> bool:
    """Of a kind that Kubernetes itself knows."""
    return manifest["kind"] not in ("ScaledObject", "ServiceMonitor")


@pytest.mark.parametrize("version", VERSIONS)
def test_schema(rendered: list[Manifest], version: str) -> None:
    """Every object is one that this Kubernetes knows, without a field that it does not know."""
    for manifest in filter(is_ours, rendered):
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
    assert bool(scalers) != ("replicas" in the("Deployment", rendered)["spec"]), "an autoscaler and a number would fight"


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
            if "valueFrom" in variable:
                assert ("Secret", variable["valueFrom"]["secretKeyRef"]["name"]) in there
    assert 1 == len({one["image"] for one in (*spec.get("initContainers", ()), *spec["containers"])})

    labels = the("Deployment", rendered)["spec"]["template"]["metadata"]["labels"]
    for manifest in rendered:
        below = manifest.get("spec", {})
        selector = below.get("selector", below.get("podSelector"))
        if selector is not None:
            wanted = selector if manifest["kind"] == "Service" else selector["matchLabels"]
            assert wanted
            target = the("Service", rendered)["metadata"]["labels"] if manifest["kind"] == "ServiceMonitor" else labels
            assert wanted.items() <= target.items(), manifest["kind"]
        if "scaleTargetRef" in below:
            assert ("Deployment", below["scaleTargetRef"]["name"]) in there


def test_ports(rendered: list[Manifest]) -> None:
    """Probes, Service, NetworkPolicy and ServiceMonitor mean the same two ports, and the plugin listens on the second."""
    one = container(rendered)
    ports = {port["name"]: port["containerPort"] for port in one["ports"]}

    assert {"http": 8188, "probe": settled(rendered).options.probe.port} == ports
    assert {"probe"} == {one[kind]["httpGet"]["port"] for kind in ("startupProbe", "readinessProbe", "livenessProbe")}
    assert ["/ready", "/ready", "/livez"] == [
        one[kind]["httpGet"]["path"] for kind in ("startupProbe", "readinessProbe", "livenessProbe")
    ]
    service = {port["name"]: port["targetPort"] for port in the("Service", rendered)["spec"]["ports"]}
    assert {"http": "http", "probe": "probe"} == service
    for manifest in rendered:
        if manifest["kind"] == "NetworkPolicy":
            assert [["http"], ["probe"]] == [[p["port"] for p in rule["ports"]] for rule in manifest["spec"]["ingress"]]


def test_locked_down(rendered: list[Manifest]) -> None:
    """Pod Security level `restricted`, but for the hostPath of the node cache; and a root file system that is read only."""
    spec = pod(rendered)

    assert spec["automountServiceAccountToken"] is False
    assert {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}}.items() <= spec[
        "securityContext"
    ].items()
    for one in (*spec.get("initContainers", ()), *spec["containers"]):
        assert {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        } == one["securityContext"]
        assert "memory" in one["resources"]["limits"]
    assert {"persistentVolumeClaim", "emptyDir", "configMap", "hostPath"} >= {key for v in spec["volumes"] for key in v} - {
        "name"
    }
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
    assert {"name": "PRELOAD_CONFIG", "value": f"{mount['mountPath']}/preload.yaml"} in container(rendered)["env"]


def numbers_fit(rendered: list[Manifest], facts: dict[str, float]) -> None:
    """The rules of docs/kubernetes.md, written down a second time."""
    one, options = container(rendered), settled(rendered).options
    startup = one["startupProbe"]
    load = facts["modelBytes"] / facts["storageSpeed"] + facts["warmupSeconds"]
    patience = (startup["failureThreshold"] - 1) * startup["periodSeconds"]

    assert options.timeout >= load
    assert patience >= facts["importSeconds"] + load
    assert patience >= facts["importSeconds"] + options.timeout, "the plugin says why before the kubelet kills"
    assert PRE_STOP == one["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod(rendered)["terminationGracePeriodSeconds"] >= PRE_STOP + options.drain + TO_END


def formula(facts: dict[str, float]) -> tuple[int, int]:
    """timeout, failureThreshold."""
    timeout = max(60, math.ceil(2 * (facts["modelBytes"] / facts["storageSpeed"] + facts["warmupSeconds"])))
    return timeout, math.ceil((timeout + math.ceil(2 * facts["importSeconds"])) / PERIOD) + 1


@settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(
    facts=st.fixed_dictionaries(
        {
            "modelBytes": st.integers(0, 2 * 10**12),
            "storageSpeed": st.one_of(st.integers(10**8, 10**11), st.floats(1e8, 1e11)),
            "importSeconds": st.one_of(st.integers(1, 3600), st.floats(0.1, 3600)),
            "warmupSeconds": st.one_of(st.integers(0, 3600), st.floats(0, 3600)),
        }
    ),
    drain=st.one_of(st.integers(0, 86_400), st.floats(0, 86_400)),
)
def test_numbers_of_the_chart(facts: dict[str, float], drain: float) -> None:
    """Whatever the values: the start has the time that loading needs, the end the time that prompts get."""
    rendered = chart({**facts, "preload": {"drain": drain}})

    numbers_fit(rendered, facts)
    timeout, threshold = formula(facts)
    # Helm reckons in decimals: on the edge between two integers it may differ by one.
    assert abs(timeout - settled(rendered).options.timeout) <= 1
    assert abs(threshold - container(rendered)["startupProbe"]["failureThreshold"]) <= 1


@pytest.mark.parametrize("timeout", [78, 78.5, 1000])
def test_own_timeout(timeout: float) -> None:
    """A `timeout` in preload.yaml is used, in the file and in the formula."""
    rendered = chart({"preload": {"timeout": timeout}})

    assert timeout == settled(rendered).options.timeout
    numbers_fit(rendered, {"modelBytes": 24e9, "storageSpeed": 5e8, "importSeconds": 20, "warmupSeconds": 30})


@pytest.mark.parametrize("name", ["hpa", "keda"])
def test_numbers_of_the_overlays(name: str) -> None:
    """The numbers are those that the comment works out, and the comment works them out as the formula does."""
    text = (KUSTOMIZE / "base" / "deployment.yaml").read_text(encoding="utf-8")
    facts = {key: float(value) for key, value in re.findall(r"(modelBytes|storageSpeed|importSeconds|warmupSeconds) (\d+)", text)}
    rendered, (timeout, threshold) = overlay(name), formula(facts)

    numbers_fit(rendered, facts)
    assert (timeout, threshold) == (settled(rendered).options.timeout, container(rendered)["startupProbe"]["failureThreshold"])
    results = [int(n) for n in re.findall(r"= (\d+) ", text.partition("apiVersion")[0])]
    assert [78, timeout, timeout + 40, threshold, pod(rendered)["terminationGracePeriodSeconds"]] == results


def test_chart_and_overlays_agree() -> None:
    """Without values of one's own the pod is the same, whichever way it is deployed."""
    one, other = container(chart()), container(overlay("hpa"))
    same = one.keys() - {"env", "image", "imagePullPolicy"}

    assert {key: one[key] for key in same} == {key: other[key] for key in same}
    assert pod(chart())["terminationGracePeriodSeconds"] == pod(overlay("hpa"))["terminationGracePeriodSeconds"]
    assert pod(chart())["securityContext"] == pod(overlay("hpa"))["securityContext"]
    cached = pod(chart({"nodeCache": {"enabled": True}}))["initContainers"][0]
    assert cached | {"imagePullPolicy": None} == pod(overlay("keda"))["initContainers"][0] | {"imagePullPolicy": None}


ODD = [
    "模型 一.safetensors",
    'it\'s "quoted" {{ .Values.x }}.safetensors',
    "#a: b, [c] & *d.safetensors",
    "off",
    "1e3",
    "<b>&amp;.pt",
    "é\\n.pt",
]


def test_odd_names_in_the_chart() -> None:
    """Names with spaces, quotes, Chinese characters and what YAML and templates stumble over arrive as they were given."""
    models = [{"unet": name, "name": f"n {i}"} for i, name in enumerate(ODD)]
    workflow = json.dumps({"1": {"inputs": {"ckpt_name": ODD[0]}}}, ensure_ascii=False)
    overrides = {"3.text": "{{ danger }}: 'x' \"y\" 模型", "3.seed": 1125899906842624}
    preload = {"models": models, "workflows": [{"path": "w.json", "overrides": overrides}]}
    rendered = chart({"preload": preload, "workflows": {"w.json": workflow}})
    found = settled(rendered)

    assert ODD == [entry.inputs["unet_name"] for entry in found.entries]
    assert () == found.problems
    assert overrides == found.workflows[0].given.overrides
    assert workflow == config(rendered)["data"]["w.json"]


def test_odd_names_in_the_overlay(tmp_path: Path) -> None:
    """The same through kustomize: a file is taken byte by byte."""
    text = yaml.safe_dump({"probe": {"port": 8189}, "models": [{"unet": name} for name in ODD]}, allow_unicode=True)
    (tmp_path / "preload.yaml").write_text(text, encoding="utf-8")
    (tmp_path / "w.json").write_text(WORKFLOW, encoding="utf-8")
    generator = {"name": "comfyui-preload", "behavior": "replace", "files": ["preload.yaml", "w.json"]}
    base = os.path.relpath(KUSTOMIZE / "overlays" / "hpa", tmp_path)
    # Namespaces must agree for the one to replace the other.
    own = {"resources": [base], "namespace": "comfyui", "configMapGenerator": [generator]}
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(own), encoding="utf-8")
    rendered = manifests.kustomized(tmp_path)

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
    """In a Secret, never in the ConfigMap; without one there is no variable; a Secret of one's own is named."""
    rendered = chart(ALL_ON)
    assert ALL_ON["token"] == the("Secret", rendered)["stringData"]["PRELOAD_TOKEN"]
    assert not any(ALL_ON["token"] in str(m) for m in rendered if m["kind"] != "Secret")

    names = {variable["name"] for variable in container(chart())["env"]}
    assert {"PRELOAD_CONFIG"} == names
    assert "Secret" not in {m["kind"] for m in chart({"token": "x", "existingSecret": "mine"})}
    assert "mine" in list(walk(container(chart({"token": "x", "existingSecret": "mine"}))["env"]))


def test_new_settings_start_new_pods() -> None:
    """A change of preload.yaml changes the pod: by a checksum in the chart, by the ConfigMap's name with kustomize."""
    one, other = (
        the("Deployment", chart({"preload": {"drain": drain}}))["spec"]["template"]["metadata"]["annotations"] for drain in (1, 2)
    )

    assert one != other
    assert re.fullmatch(r"comfyui-preload-[a-z0-9]{10}", config(overlay("hpa"))["metadata"]["name"])


def test_cpu_example() -> None:
    """No GPU is asked for."""
    rendered = RENDERED["chart, cpu"]()

    assert not any("nvidia" in str(value) for value in walk(container(rendered)))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"modelBytes": "24GB"}, "at '/modelBytes': got string, want number"),
        ({"storageSpeed": 500}, "at '/storageSpeed': minimum: got 500, want 1×10⁰⁶"),
        ({"importSeconds": 0}, "at '/importSeconds': exclusiveMinimum"),
        ({"modelByte": 1}, "additional properties 'modelByte' not allowed"),
        ({"preload": {"drain": -1}}, "at '/preload/drain': minimum: got -1, want 0"),
        ({"preload": {"drain": "25s"}}, "at '/preload/drain': got string, want number"),
        ({"preload": {"on_error": "restart"}}, "at '/preload/on_error': value must be one of 'unready', 'serve', 'exit'"),
        ({"preload": {"probe": {"port": 8188}}}, "at '/preload/probe/port': 'not' failed"),
        ({"preload": {"probe": {"port": 80}}}, "at '/preload/probe/port': minimum: got 80, want 1,024"),
        ({"preload": {"models": "flux"}}, "at '/preload/models': got string, want array"),
        ({"preload": {"timeout": 30}}, "preload.timeout is 30, but modelBytes / storageSpeed + warmupSeconds is 78 s"),
        ({"modelBytes": 10**14}, "loading would take 200030 s"),
        ({"workflows": {"模型.json": "{}"}}, "invalid propertyName '模型.json'"),
        ({"autoscaling": {"kind": "cpu"}}, "at '/autoscaling/kind': value must be one of 'none', 'hpa', 'keda'"),
        ({"autoscaling": {"minReplicas": 0}}, "at '/autoscaling/minReplicas': minimum: got 0, want 1"),
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


@pytest.mark.parametrize("example", ["", "gpu", "cpu"])
def test_lint(example: str) -> None:
    """`helm lint --strict` has nothing to say but that there is no icon."""
    values = ["--values", str(CHART / "examples" / f"{example}.yaml")] if example else []
    said = helm("lint", "--strict", str(CHART), *values)

    assert "1 chart(s) linted, 0 chart(s) failed" in said
    assert not re.search(r"WARNING|ERROR", said)


def test_notes() -> None:
    """What helm says after an installation has the worked-out numbers in it."""
    said = helm("install", "demo", str(CHART), "--dry-run=client").partition("NOTES:")[2]

    assert "It has 196 s for that, of which loading may take 156 s" in said
    assert "25 s to finish, and the pod 40 s in all" in said
    assert "nothing is loaded" in said


def test_every_value_is_explained() -> None:
    """values.yaml has every key that the schema knows, and a comment beside each of the first level or what is in it."""
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))

    assert schema["properties"].keys() - {"global"} == values.keys()
    for key, value in values.items():
        allowed = schema["properties"][key]
        if allowed.get("additionalProperties") is False:
            assert allowed["properties"].keys() == value.keys(), key


# What scales. Kubernetes' own schemas end here: for KEDA and the Prometheus operator these are our own, of what we use.

OBJECTS: dict[str, dict[str, Any]] = {
    "ScaledObject": {
        "apiVersion": "keda.sh/v1alpha1",
        "spec": {"scaleTargetRef", "minReplicaCount", "maxReplicaCount", "pollingInterval", "triggers", "advanced"},
    },
    "ServiceMonitor": {"apiVersion": "monitoring.coreos.com/v1", "spec": {"selector", "endpoints"}},
}


@pytest.mark.parametrize("way", ["chart, gpu", "chart, all on", "overlay hpa", "overlay keda"])
def test_custom_objects(way: str) -> None:
    """Only fields that KEDA and the Prometheus operator document, with the types that they want."""
    for manifest in (m for m in RENDERED[way]() if not is_ours(m)):
        wanted = OBJECTS[manifest["kind"]]
        assert wanted["apiVersion"] == manifest["apiVersion"]
        assert wanted["spec"] == manifest["spec"].keys()
        if manifest["kind"] == "ServiceMonitor":
            assert [{"port": "probe", "path": "/preload/metrics", "interval": "15s"}] == manifest["spec"]["endpoints"]
            continue
        (trigger,) = manifest["spec"]["triggers"]
        assert {"type", "metricType", "metadata"} == trigger.keys()
        assert ("prometheus", "AverageValue") == (trigger["type"], trigger["metricType"])
        assert {"serverAddress", "query", "threshold", "ignoreNullValues"} == trigger["metadata"].keys()
        assert all(isinstance(value, str) for value in trigger["metadata"].values()), "KEDA's metadata are strings"
        behavior = manifest["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
        assert behavior == the("HorizontalPodAutoscaler", overlay("hpa"))["spec"]["behavior"]


@pytest.mark.parametrize("way", ["chart, gpu", "chart, all on", "overlay hpa", "overlay keda"])
def test_scaling(way: str) -> None:
    """On queue depth per replica, never on CPU; never to nobody."""
    rendered = RENDERED[way]()
    (scaler,) = (m for m in rendered if m["kind"] in ("HorizontalPodAutoscaler", "ScaledObject"))

    assert 1 == (scaler["spec"].get("minReplicas") or scaler["spec"]["minReplicaCount"])
    assert "comfyui_preload_queue_remaining" in str(scaler["spec"])
    assert not {"cpu", "memory"} & {value for value in walk(scaler["spec"]) if isinstance(value, str)}


def test_queries(tmp_path: Path) -> None:
    """The metric is one that we have, under the name that the HPA asks for; Prometheus takes both expressions."""
    (rule,) = yaml.safe_load((KUSTOMIZE / "prometheus-adapter.yaml").read_text(encoding="utf-8"))["rules"]["custom"]
    asked = the("HorizontalPodAutoscaler", overlay("hpa"))["spec"]["metrics"][0]["pods"]["metric"]["name"]
    names = {s.name for family in text_string_to_metric_families(metrics.render(full()).decode()) for s in family.samples}
    assert asked in names
    assert rule["seriesQuery"].startswith(f"{asked}{{")

    expression = rule["metricsQuery"].replace("<<.GroupBy>>", "pod").replace("<<.Series>>", asked)
    expression = expression.replace("<<.LabelMatchers>>", 'namespace="comfyui",pod=~"a|b"')
    triggers = [the("ScaledObject", RENDERED[way]())["spec"]["triggers"][0] for way in ("chart, gpu", "overlay keda")]
    expressions = [expression, *(trigger["metadata"]["query"] for trigger in triggers)]
    assert all(asked in text and "<<" not in text for text in expressions)
    rules = [{"record": f"r{number}", "expr": text} for number, text in enumerate(expressions)]
    (tmp_path / "rules.yml").write_text(json.dumps({"groups": [{"name": "g", "rules": rules}]}), encoding="utf-8")
    code, said = promtool("check", "rules", "rules.yml", folder=tmp_path)
    assert 0 == code, said
