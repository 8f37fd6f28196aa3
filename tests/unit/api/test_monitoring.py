"""What deploy/monitoring asks for is there.

Every metric and every label, and Prometheus understands every expression.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from comfy_preload.api import metrics
from tests.support.prometheus import promtool
from tests.support.snapshots import full
from tools.host import ROOT

FOLDER = ROOT / "deploy" / "monitoring"
BY_PROMETHEUS = {"job", "instance", "namespace", "pod"}
_METRIC = re.compile(r"\bcomfyui_\w+\b")
_SELECTOR = re.compile(r"\b(comfyui_\w+)\{([^}]*)\}")
_GROUPING = re.compile(r"\b(?:by|on)\s*\(([^)]*)\)")


def known() -> dict[str, set[str]]:
    """Every metric there is, with its labels."""
    samples = [
        s
        for family in text_string_to_metric_families(metrics.render(full(), connected=True).text.decode())
        for s in family.samples
    ]
    return {sample.name: {*sample.labels, *BY_PROMETHEUS} for sample in samples}


def expressions() -> Iterator[Any]:
    yield from (pytest.param(rule["expr"], id=rule.get("alert") or rule["record"]) for rule in rules())
    for panel in dashboard()["panels"]:
        yield from (
            pytest.param(t["expr"], id=f"{panel['title']}-{t['refId']}") for t in panel.get("targets", ())
        )


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((FOLDER / "alerts.yml").read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / "dashboard.json").read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize("expression", list(expressions()))
def test_names(expression: str) -> None:
    """Every metric, and every label it is chosen by, is one that we have.

    What is grouped by, one of theirs.
    """
    names = set(_METRIC.findall(expression))

    assert names or "kube" in expression, "a metric of ours, or of Kubernetes"
    assert names <= known().keys()
    for name, selector in _SELECTOR.findall(expression):
        assert set(re.findall(r"(\w+)\s*(?:=|!=|=~|!~)\s*\"", selector)) <= known()[name]
    for group in _GROUPING.findall(expression) if "kube" not in expression else ():
        assert {label.strip() for label in group.split(",")} <= set.union(*(known()[name] for name in names))


def test_rules() -> None:
    """Prometheus takes the rules."""
    code, said = promtool("check", "rules", "alerts.yml", folder=FOLDER)

    assert 0 == code, said


def test_rules_fire() -> None:
    """They fire when they should, and only then."""
    code, said = promtool("test", "rules", "alerts_test.yml", folder=FOLDER)

    assert 0 == code, said


def test_every_rule_is_tried() -> None:
    """No rule is without a test."""
    tests = yaml.safe_load((FOLDER / "alerts_test.yml").read_text(encoding="utf-8"))["tests"]

    tried = {
        case["alertname"] for test in tests for case in test.get("alert_rule_test", ()) if case["exp_alerts"]
    }
    assert {rule["alert"] for rule in rules() if "alert" in rule} == tried


def test_configuration() -> None:
    """Prometheus takes the example of a configuration."""
    code, said = promtool("check", "config", "--syntax-only", "prometheus.yml", folder=FOLDER)

    assert 0 == code, said


def test_expressions_of_the_dashboard(tmp_path: Path) -> None:
    """Prometheus takes every expression of the dashboard, with Grafana's variables filled in."""
    records = [
        {
            "record": f"r{number}",
            "expr": expression.values[0].replace("$__rate_interval", "1m").replace("$", ""),
        }
        for number, expression in enumerate(expressions())
    ]
    file = tmp_path / "rules.yml"
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": records}]}), encoding="utf-8")
    code, said = promtool("check", "rules", str(file))

    assert 0 == code, said


def test_dashboard() -> None:
    """Grafana 10 takes it.

    Ids are unique, panels do not overlap, and every data source is the one that is chosen above.
    """
    board = dashboard()
    cells = [
        (x, y)
        for p in board["panels"]
        for x in range(p["gridPos"]["x"], p["gridPos"]["x"] + p["gridPos"]["w"])
        for y in range(p["gridPos"]["y"], p["gridPos"]["y"] + p["gridPos"]["h"])
    ]
    sources = {p["datasource"]["uid"] for p in board["panels"] if p["type"] != "row"}

    assert len(board["panels"]) == len({p["id"] for p in board["panels"]})
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    assert {"${datasource}"} == sources
    assert (None, 38) == (board["id"], board["schemaVersion"])
