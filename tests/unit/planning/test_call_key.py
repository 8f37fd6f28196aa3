"""Equal calls have equal keys."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import SimpleNamespace

import pytest

from comfy_preload.core.planning.call import call_key


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        pytest.param({"b": 1, "a": "x"}, 'nodes.L {"a": "x", "b": 1}', id="order-does-not-matter"),
        pytest.param({}, "nodes.L {}", id="none"),
        pytest.param({"a": True, "b": None}, 'nodes.L {"a": true, "b": null}', id="plain"),
        pytest.param({"a": ["x"]}, 'nodes.L {"a": ["x"]}', id="list"),
        pytest.param({"model": object()}, "", id="object"),
        pytest.param({"a": math.nan}, "", id="nan"),
    ],
)
def test_call_key(arguments: dict[str, object], key: str) -> None:
    """Equal calls have equal keys; a call with anything but plain values has none."""
    assert key == call_key("nodes.L", arguments)


class _Kind(Enum):
    FAST = "fast"


@dataclass
class _Settings:
    blocks: int
    kinds: tuple[_Kind, ...] = (_Kind.FAST,)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        pytest.param({"a": 1, "b": [2]}, {"b": [2], "a": 1}, True, id="mapping"),
        pytest.param([("x.pt", 1.0)], [("x.pt", 1.0)], True, id="list-of-tuples"),
        pytest.param([("x.pt", 1.0)], [("x.pt", 0.5)], False, id="other-strength"),
        pytest.param(_Settings(20), _Settings(20), True, id="dataclass"),
        pytest.param(_Settings(20), _Settings(21), False, id="other-dataclass"),
        pytest.param(SimpleNamespace(a={1, 2}), SimpleNamespace(a={2, 1}), True, id="namespace"),
        pytest.param(Path("a"), Path("b"), False, id="path"),
    ],
)
def test_call_key_of_settings(one: object, other: object, same: bool) -> None:  # noqa: FBT001 — a column of the table
    """Objects that hold settings are compared by what they hold."""
    keys = [call_key("N", {"x": value}) for value in (one, other)]

    assert all(keys)
    assert same is (keys[0] == keys[1])


@pytest.mark.parametrize(
    "value", [object(), [object()], {"x": object()}, _Settings], ids=["object", "list", "mapping", "class"]
)
def test_call_key_of_models(value: object) -> None:
    """What may hold more than settings has no key, unless it is known otherwise."""
    assert "" == call_key("N", {"x": value})
    assert call_key("N", {"x": value}, known=lambda _: "a model") != call_key(
        "N", {}, known=lambda _: "a model"
    )
