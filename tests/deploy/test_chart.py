"""Values of the chart: odd names arrive as they are, bad ones are refused with a reason, all are explained."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from comfy_preload.core.workflow.locate import locate
from tests.deploy.manifests import (
    ALL_ON,
    CHART,
    KUSTOMIZE,
    RENDERED,
    WORKFLOW,
    chart,
    config,
    container,
    kustomized,
    settled,
    the,
    walk,
)
from tests.deploy.tools import helm

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
    """Names with spaces, quotes, Chinese characters and what YAML and templates stumble over arrive as they were given."""
    models = [{"unet": name, "name": f"n {i}"} for i, name in enumerate(ODD)]
    workflow = json.dumps({"1": {"inputs": {"ckpt_name": ODD[0]}}}, ensure_ascii=False)
    monkeypatch.setenv("POD_IP", "10.1.2.3")
    registry = {"redis": "redis://redis:6379", "advertise": "http://${POD_IP}:8188"}
    overrides = {"3.text": "{{ danger }}: 'x' \"y\" 模型", "3.seed": 1125899906842624}
    preload = {
        "models": models,
        "registry": registry,
        "workflows": [{"path": "w.json", "overrides": overrides}],
    }
    rendered = chart({"preload": preload, "workflows": {"w.json": workflow}})
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
    """In a Secret, never in the ConfigMap; without one there is no variable; a Secret of one's own is named."""
    rendered = chart(ALL_ON)
    assert ALL_ON["token"] == the("Secret", rendered)["stringData"]["PRELOAD_TOKEN"]
    assert not any(ALL_ON["token"] in str(m) for m in rendered if m["kind"] != "Secret")

    names = {variable["name"] for variable in container(chart())["env"]}
    assert {"PRELOAD_CONFIG", "POD_IP"} == names
    assert "Secret" not in {m["kind"] for m in chart({"token": "x", "existingSecret": "mine"})}
    assert "mine" in list(walk(container(chart({"token": "x", "existingSecret": "mine"}))["env"]))


def test_cpu_example() -> None:
    """No GPU is asked for."""
    rendered = RENDERED["chart, cpu"]()

    assert not any("nvidia" in str(value) for value in walk(container(rendered)))


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
