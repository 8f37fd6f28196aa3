"""How a client of the chart stays with one replica, and who may reach what."""

from __future__ import annotations

from typing import Any

import pytest

from tests.deploy.manifests import (
    chart,
    service,
    the,
)


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


def test_guarded_fleet() -> None:
    """The gateway gets the token only where it needs it: to ask a fleet that is shown only with it."""
    on: dict[str, Any] = {"gateway": {"enabled": True}, "redis": {"enabled": True}, "token": "x"}
    registry = {"redis": "redis://demo-comfyui-preload-redis:6379", "advertise": "http://${POD_IP}:8188"}
    found: list[tuple[bool, bool]] = []
    for more in ({}, {"preload": {"registry": {**registry, "access": "token"}}}):
        rendered = chart({**on, **more})
        (one,) = (
            m for m in rendered if m["metadata"]["name"].endswith("-gateway") and m["kind"] == "Deployment"
        )
        (nginx,) = one["spec"]["template"]["spec"]["containers"]
        mounted = [m["mountPath"] for m in nginx["volumeMounts"] if m["name"] == "token"]
        (settings,) = (m["data"]["settings.conf"] for m in rendered if "settings.conf" in m.get("data", {}))
        found.append(
            ("/etc/gateway-token" in mounted, "default /etc/gateway-token/PRELOAD_TOKEN;" in settings)
        )

    assert [(False, False), (True, True)] == found


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
