"""What the chart refuses: wrong types, typos, combinations that cannot work; each with its reason."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.deploy.manifests import (
    DOWNLOAD,
    SCHEMA,
    chart,
    resolved,
)


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


PLAIN = {"string": 1.5, "number": "x", "integer": "x", "boolean": "x", "array": 1.5, "object": 1.5}
"""A type, and something that is not of it."""


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
            {"preload": {"registry": {**REDIS, "access": "token"}}, "redis": {"enabled": True}},
            "preload.registry.access is token, and there is none",
        ),
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
