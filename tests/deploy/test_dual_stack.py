"""IPv6: what listens and what is written down where pods have IPv6 addresses or both kinds."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.deploy.manifests import chart, container

GATEWAY: dict[str, Any] = {"gateway": {"enabled": True}, "redis": {"enabled": True}}


def listens(**service: Any) -> list[str]:
    """ComfyUI's arguments. Of two equal options the last one counts, so these replace the image's."""
    return container(chart({"service": service, "args": ["--cpu"]})).get("args", [])


@pytest.mark.parametrize(
    ("service", "expected"),
    [
        ({}, []),
        ({"ipFamilies": ["IPv4"]}, []),
        ({"ipFamilies": ["IPv6"]}, ["--listen", "::"]),
        ({"ipFamilies": ["IPv6"], "ipFamilyPolicy": "SingleStack"}, ["--listen", "::"]),
        ({"ipFamilyPolicy": "PreferDualStack"}, ["--listen", "0.0.0.0,::"]),
        ({"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv6", "IPv4"]}, ["--listen", "0.0.0.0,::"]),
    ],
    ids=str,
)
def test_listens(service: dict[str, Any], expected: list[str]) -> None:
    """The image listens on IPv4; the kubelet asks the pod's first address, of the cluster's first family."""
    assert [*expected, "--cpu"] == listens(**service)


def test_services() -> None:
    """Both Services that clients use take the families as given, and leave them to the cluster otherwise."""
    both = {"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv6", "IPv4"]}
    plain = chart(GATEWAY)
    dual = chart({**GATEWAY, "service": both, "gateway": {"enabled": True, "service": both}})

    for name in ("demo-comfyui-preload", "demo-comfyui-preload-gateway"):
        for rendered, given in ((plain, {}), (dual, both)):
            (spec,) = (m["spec"] for m in rendered if (m["kind"], m["metadata"]["name"]) == ("Service", name))
            assert given == {key: spec[key] for key in both if key in spec}


@pytest.mark.parametrize(("ipv6", "expected"), [(True, ["8080", "[::]:8080"]), (False, ["8080"])])
def test_gateway_listens(ipv6: bool, expected: list[str]) -> None:  # noqa: FBT001 — a parameter of the test
    """As nginx has it: one socket for each family, and none of a family that the kernel does not know."""
    rendered = chart({**GATEWAY, "gateway": {"enabled": True, "ipv6": ipv6}})
    (text,) = (m["data"]["nginx.conf"] for m in rendered if "nginx.conf" in m.get("data", {}))

    assert expected == re.findall(r"^ *listen (\S+);", text, re.MULTILINE)
