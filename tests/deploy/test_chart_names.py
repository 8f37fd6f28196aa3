"""Names of objects, whatever a release or a storage class is called."""

from __future__ import annotations

import re
from typing import Any

import kubernetes_validate
import pytest

from tests.deploy.manifests import (
    DOWNLOAD,
    chart,
    deployment,
    the,
)


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
