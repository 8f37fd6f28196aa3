"""What scales: on the queue, never on CPU, never to nobody; and what Prometheus is asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from comfy_preload.api import metrics
from tests.deploy.manifests import KUSTOMIZE, RENDERED, is_built_in, overlay, the, walk
from tests.support.prometheus import promtool
from tests.support.snapshots import full

# The API's own schemas end here: these are ours, of what we use of KEDA and the Prometheus operator.
OBJECTS: dict[str, dict[str, Any]] = {
    "ScaledObject": {
        "apiVersion": "keda.sh/v1alpha1",
        "spec": {
            "scaleTargetRef",
            "minReplicaCount",
            "maxReplicaCount",
            "pollingInterval",
            "triggers",
            "advanced",
        },
    },
    "ServiceMonitor": {"apiVersion": "monitoring.coreos.com/v1", "spec": {"selector", "endpoints"}},
}


@pytest.mark.parametrize("way", ["chart, gpu", "chart, all on", "overlay hpa", "overlay keda"])
def test_custom_objects(way: str) -> None:
    """Only fields that KEDA and the Prometheus operator document, with the types that they want."""
    for manifest in (m for m in RENDERED[way]() if not is_built_in(m)):
        wanted = OBJECTS[manifest["kind"]]
        assert wanted["apiVersion"] == manifest["apiVersion"]
        assert wanted["spec"] == manifest["spec"].keys()
        if manifest["kind"] == "ServiceMonitor":
            assert [{"port": "probe", "path": "/preload/metrics", "interval": "15s"}] == manifest["spec"][
                "endpoints"
            ]
            continue
        (trigger,) = manifest["spec"]["triggers"]
        assert {"type", "metricType", "metadata"} == trigger.keys()
        assert ("prometheus", "AverageValue") == (trigger["type"], trigger["metricType"])
        assert {"serverAddress", "query", "threshold", "ignoreNullValues"} == trigger["metadata"].keys()
        assert all(isinstance(value, str) for value in trigger["metadata"].values()), (
            "KEDA's metadata are strings"
        )
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
    (rule,) = yaml.safe_load((KUSTOMIZE / "prometheus-adapter.yaml").read_text(encoding="utf-8"))["rules"][
        "custom"
    ]
    asked = the("HorizontalPodAutoscaler", overlay("hpa"))["spec"]["metrics"][0]["pods"]["metric"]["name"]
    names = {
        s.name
        for family in text_string_to_metric_families(metrics.render(full()).decode())
        for s in family.samples
    }
    assert asked in names
    assert rule["seriesQuery"].startswith(f"{asked}{{")

    expression = rule["metricsQuery"].replace("<<.GroupBy>>", "pod").replace("<<.Series>>", asked)
    expression = expression.replace("<<.LabelMatchers>>", 'namespace="comfyui",pod=~"a|b"')
    triggers = [
        the("ScaledObject", RENDERED[way]())["spec"]["triggers"][0] for way in ("chart, gpu", "overlay keda")
    ]
    expressions = [expression, *(trigger["metadata"]["query"] for trigger in triggers)]
    assert all(asked in text and "<<" not in text for text in expressions)
    rules = [{"record": f"r{number}", "expr": text} for number, text in enumerate(expressions)]
    (tmp_path / "rules.yml").write_text(
        json.dumps({"groups": [{"name": "g", "rules": rules}]}), encoding="utf-8"
    )
    code, said = promtool("check", "rules", "rules.yml", folder=tmp_path)
    assert 0 == code, said
