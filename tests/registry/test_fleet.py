"""Who is listed, who is recommended, and how that is asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest
import yaml
from jsonschema import Draft202012Validator

from comfy_preload.api.queries import answer
from comfy_preload.registry.fleet import Fleet
from tests.registry.replicas import NAME, held, replica
from tests.support.snapshots import snapshot

SOURCE = Path(__file__).resolve().parents[2] / "docs" / "openapi.yaml"
SCHEMAS = yaml.safe_load(SOURCE.read_text(encoding="utf-8"))["components"]


def fleet() -> Fleet:
    """Some that have the model on the device, and one of each kind that does not count."""
    return Fleet(
        own=replica("a", held("sdxl"), queue=2),
        others=(
            replica("b", held("sdxl"), held("vae"), queue=1),
            replica("c", held("sdxl", state="evicted", bytes_on_device=0)),
            replica("d", held("sdxl"), ready=False),
            replica("e", held("copy", content="c1-0"), held(NAME, content=None), queue=1),
            replica("f", held("sdxl"), updated=0.0),
            replica("g", held("sdxl", state="warm", bytes_on_device=500, content="c1-0"), queue=7),
        ),
        ignored={"malformed": 1},
        connected=True,
    )


def get(path: str, query: str, fleet: Fleet | None) -> tuple[int, Any]:
    given = answer(path, query, snapshot(), fleet)
    return given.status, json.loads(given.body)


def check(schema: str, body: Any) -> None:
    Draft202012Validator({"$ref": f"#/components/schemas/{schema}", "components": SCHEMAS}).validate(body)


@pytest.mark.parametrize(
    ("models", "expected"),
    [
        pytest.param(["sdxl"], ["b", "c", "a", "g"], id="by-name"),
        pytest.param(["c1-0"], ["b", "c", "e", "a", "g"], id="by-content"),
        pytest.param(["sdxl", "vae"], ["b"], id="several"),
        pytest.param([NAME], ["e"], id="odd-name"),
        pytest.param(["nobody's"], [], id="unknown"),
    ],
)
def test_locate(models: list[str], expected: list[str]) -> None:
    """Ready replicas that have loaded all of the models.

    One with a long queue comes after one that must move weights.
    """
    assert expected == [row["id"] for row in fleet().locate([{name} for name in models])["replicas"]]


def test_listing() -> None:
    """All that are alive; what is not is counted with what was not believed."""
    listing = fleet().listing()

    assert list("abcdeg") == [row["id"] for row in listing["replicas"]]
    assert {"malformed": 1, "expired": 1} == listing["ignored"]


def test_while_redis_is_away() -> None:
    """The others are forgotten in time; this replica stays, and answers for itself."""
    now = fleet()
    later = now.own.updated + 60

    assert ["a"] == [row["id"] for row in now.listing(later)["replicas"]]
    assert ["a"] == [row["id"] for row in now.locate([{"sdxl"}], later)["replicas"]]


@pytest.mark.parametrize(
    "query", [f"model={quote(NAME, safe='')}", urlencode({"model": NAME})], ids=["percent", "form"]
)
def test_odd_name_in_a_query(query: str) -> None:
    """A space may come as %20 or as +, and + is in names."""
    status, body = get("/preload/locate", query, fleet())

    assert (200, ["e"]) == (status, [row["id"] for row in body["replicas"]])
    check("Located", body)


@pytest.mark.parametrize("query", ["", "model=", "model", "model=a&model=", "&".join(["model=a"] * 17)])
def test_unclear(query: str) -> None:
    """A question without a model is not a question."""
    status, body = get("/preload/locate", query, fleet())

    assert (400, "locate_unclear") == (status, body["error"]["code"])


@pytest.mark.parametrize("path", ["/preload/replicas", "/preload/locate"])
def test_without_registry(path: str) -> None:
    """It says what to do."""
    status, body = get(path, "model=a", None)

    assert (501, "registry_off") == (status, body["error"]["code"])


def test_replicas() -> None:
    """The body is as documented."""
    status, body = get("/api/preload/replicas", "", fleet())

    assert status == 200
    check("Replicas", body)
