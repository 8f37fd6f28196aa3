"""One set of probes, wherever we show one: READMEs, HTTP reference, manual, chart, manifests, Docker."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from tests.deploy import dockerfile
from tests.deploy.manifests import chart, container, overlay
from tests.deploy.tools import ROOT

KINDS = ("startupProbe", "readinessProbe", "livenessProbe")


def applied() -> dict[str, Any]:
    """The chart's, with numbers in place of the ports' names."""
    one = container(chart())
    ports = {port["name"]: port["containerPort"] for port in one["ports"]}
    return {
        kind: {**one[kind], "httpGet": {**one[kind]["httpGet"], "port": ports[one[kind]["httpGet"]["port"]]}}
        for kind in KINDS
    }


@pytest.mark.parametrize("file", ["README.md", "README.zh-CN.md", "docs/http.md"])
def test_shown(file: str) -> None:
    """What is shown to be copied is what the chart applies with the values as they are."""
    text = (ROOT / file).read_text(encoding="utf-8")
    (block,) = re.findall(r"^```\w*\n([^`]*startupProbe:[^`]*)^```", text, re.MULTILINE)

    assert applied() == {kind: yaml.safe_load(block)[kind] for kind in KINDS}


@pytest.mark.parametrize("name", ["plain", "hpa", "keda"])
def test_manifests(name: str) -> None:
    one, other = container(chart()), container(overlay(name))

    assert {kind: one[kind] for kind in KINDS} == {kind: other[kind] for kind in KINDS}


def test_manual() -> None:
    """The table of docs/kubernetes.md."""
    text = (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8")
    for kind, one in applied().items():
        name = kind.removesuffix("Probe")
        (row,) = re.findall(rf"^\| {name} \|(.*)$", text, re.MULTILINE)
        path, port = one["httpGet"]["path"], {8188: "http", 9188: "probe"}[one["httpGet"]["port"]]
        assert f"`{path}` on `{port}`" in row
        assert f" {one['periodSeconds']} s" in row
        assert name == "startup" or f" {one['failureThreshold']} failures" in row


def test_docker() -> None:
    """Docker has one check: healthy is ready."""
    assert "wait" in dockerfile.health_check()
    assert "/ready" == applied()["readinessProbe"]["httpGet"]["path"]
