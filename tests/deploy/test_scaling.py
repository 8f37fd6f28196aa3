"""What scales: on the queue, never on CPU, never to nobody; and what Prometheus is asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from cloudcoil.models.keda import v1alpha1 as keda
from cloudcoil.models.prometheus_operator import v1 as operator
from prometheus_client.parser import text_string_to_metric_families

from comfy_preload.api import metrics
from tests.deploy.manifests import KUSTOMIZE, RENDERED, chart, overlay, the, walk
from tests.support.prometheus import promtool
from tests.support.snapshots import full

MODELS: dict[str, Any] = {
    "ScaledObject": keda.ScaledObject,
    "ServiceMonitor": operator.ServiceMonitor,
    "PrometheusRule": operator.PrometheusRule,
}
"""Made from the CRDs of KEDA 2.16 and of the Prometheus operator 0.80."""
WITH_CUSTOM = ["chart, fleet", "chart, schedule", "chart, all on", "overlay hpa", "overlay keda"]
SCALED = WITH_CUSTOM


def dropped(given: Any, kept: Any) -> list[str]:
    """What is in the object and not in the model that was made of it: fields that the CRD does not know."""
    if isinstance(given, dict):
        missing = [key for key in given if key not in kept]
        return missing + [one for key in given if key in kept for one in dropped(given[key], kept[key])]
    if isinstance(given, list):
        return [one for left, right in zip(given, kept, strict=True) for one in dropped(left, right)]
    return []


def unknown(manifest: dict[str, Any]) -> list[str]:
    """Fields of a custom object that its CRD does not know; raises if one has the wrong type."""
    found = MODELS[manifest["kind"]].model_validate(manifest)
    return dropped(
        manifest["spec"], json.loads(found.model_dump_json(by_alias=True, exclude_unset=True))["spec"]
    )


@pytest.mark.parametrize("way", WITH_CUSTOM)
def test_custom_objects(way: str) -> None:
    """Only fields that KEDA and the Prometheus operator know, with the types that they expect."""
    for manifest in (m for m in RENDERED[way]() if m["kind"] in MODELS):
        assert [] == unknown(manifest)
        for trigger in manifest["spec"].get("triggers", ()):
            assert all(isinstance(value, str) for value in trigger["metadata"].values()), (
                "KEDA's metadata are strings"
            )


def test_custom_objects_finds_mistakes() -> None:
    """The test above can fail: a misspelt field, a wrong type."""
    (good,) = (m for m in RENDERED["chart, fleet"]() if m["kind"] == "ScaledObject")

    assert ["minReplicas"] == unknown({**good, "spec": {**good["spec"], "minReplicas": 1}})
    with pytest.raises(ValueError, match="minReplicaCount"):
        unknown({**good, "spec": {**good["spec"], "minReplicaCount": "x"}})


ROUTE: dict[str, Any] = {
    "parentRefs": ...,
    "hostnames": ...,
    "rules": {"matches", "filters", "timeouts", "sessionPersistence", "backendRefs"},
}
"""What we use of an HTTPRoute; Gateway API 1.4, experimental channel."""


def test_route() -> None:
    """No CRD of the Gateway API is on PyPI: this is its documentation, of the fields that we use."""
    route = the("HTTPRoute", RENDERED["chart, all on"]())

    assert "gateway.networking.k8s.io/v1" == route["apiVersion"]
    assert route["spec"].keys() <= ROUTE.keys()
    assert all(rule.keys() <= ROUTE["rules"] for rule in route["spec"]["rules"])
    assert {"name", "port"} == route["spec"]["rules"][0]["backendRefs"][0].keys()


@pytest.mark.parametrize("way", SCALED)
def test_scaling(way: str) -> None:
    """On queue depth per replica, never on CPU; to nobody only where something else starts the first."""
    rendered = RENDERED[way]()
    (scaler,) = (m for m in rendered if m["kind"] in ("HorizontalPodAutoscaler", "ScaledObject"))
    least = scaler["spec"].get("minReplicas", scaler["spec"].get("minReplicaCount"))

    assert (0 if way == "chart, schedule" else 1) == least
    assert (least == 0) == (len(scaler["spec"].get("triggers", ())) > 1)
    assert "comfyui_preload_queue_remaining" in str(scaler["spec"])
    assert not {"cpu", "memory"} & {value for value in walk(scaler["spec"]) if isinstance(value, str)}
    behavior = (
        scaler["spec"].get("behavior")
        or scaler["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    )
    assert {"scaleUp", "scaleDown"} == behavior.keys()


def test_prometheus_is_away() -> None:
    """KEDA then keeps this many replicas, by default; with 0 it leaves things as they are."""
    values = {"autoscaling": {"kind": "keda"}, "serviceMonitor": {"enabled": True}}
    assert {"failureThreshold": 4, "replicas": 2} == the("ScaledObject", chart(values))["spec"]["fallback"]
    values["autoscaling"] = {"kind": "keda", "fallback": 0}
    assert "fallback" not in the("ScaledObject", chart(values))["spec"]


def test_another_prometheus() -> None:
    """Thanos, Mimir and the like.

    Headers, authentication, a query of one's own; then no ServiceMonitor is needed.
    """
    auto = {
        "kind": "keda",
        "query": 'sum(q{x="1"})',
        "metadata": {"customHeaders": "X-Scope-OrgID=me", "authModes": "bearer"},
        "authenticationRef": {"name": "mimir"},
    }
    (trigger,) = the("ScaledObject", chart({"autoscaling": auto}))["spec"]["triggers"]

    assert auto["authenticationRef"] == trigger["authenticationRef"]
    assert auto["metadata"].items() <= trigger["metadata"].items()
    assert auto["query"] == trigger["metadata"]["query"]


def test_queries(tmp_path: Path) -> None:
    """The metric is one that we have, under the name that the HPA asks for.

    Prometheus takes both expressions.
    """
    (rule,) = yaml.safe_load((KUSTOMIZE / "prometheus-adapter.yaml").read_text(encoding="utf-8"))["rules"][
        "custom"
    ]
    asked = the("HorizontalPodAutoscaler", overlay("hpa"))["spec"]["metrics"][0]["pods"]["metric"]["name"]
    names = {
        s.name
        for family in text_string_to_metric_families(metrics.render(full()).text.decode())
        for s in family.samples
    }
    assert asked in names
    assert rule["seriesQuery"].startswith(f"{asked}{{")

    expression = rule["metricsQuery"].replace("<<.GroupBy>>", "pod").replace("<<.Series>>", asked)
    expression = expression.replace("<<.LabelMatchers>>", 'namespace="comfyui",pod=~"a|b"')
    triggers = [
        the("ScaledObject", RENDERED[way]())["spec"]["triggers"][0]
        for way in ("chart, fleet", "overlay keda")
    ]
    expressions = [expression, *(trigger["metadata"]["query"] for trigger in triggers)]
    assert all(asked in text and "<<" not in text for text in expressions)
    rules = [{"record": f"r{number}", "expr": text} for number, text in enumerate(expressions)]
    (tmp_path / "rules.yml").write_text(
        json.dumps({"groups": [{"name": "g", "rules": rules}]}), encoding="utf-8"
    )
    code, said = promtool("check", "rules", "rules.yml", folder=tmp_path)
    assert 0 == code, said
