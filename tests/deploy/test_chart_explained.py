"""What the chart says of itself: lint, notes, README and schema."""

from __future__ import annotations

import re

import pytest
import yaml

from tests.deploy.manifests import (
    CHART,
    EXAMPLES,
    SCHEMA,
    resolved,
)
from tests.deploy.tools import helm
from tools.chart import README, Value, readme_text
from tools.chart import values as table_rows
from tools.schema import VALUES, values_text


@pytest.mark.parametrize("example", ["", *EXAMPLES])
def test_lint(example: str) -> None:
    """`helm lint --strict` has nothing to say."""
    values = ["--values", str(CHART / "examples" / f"{example}.yaml")] if example else []
    said = helm("lint", "--strict", str(CHART), *values)

    assert "1 chart(s) linted, 0 chart(s) failed" in said
    assert not re.search(r"WARNING|ERROR", said)


def notes(*words: str) -> str:
    return helm("install", "demo", str(CHART), "--dry-run=client", *words).partition("NOTES:")[2]


def test_notes() -> None:
    """What helm says after an installation has the worked-out numbers in it, and what is still to be done."""
    said = notes()

    assert "It has 196 s for that, of which loading may take 156 s" in said
    assert "300 s to finish, and the pod 315 s in all" in said
    for words in ("nothing is loaded", "is new and empty", "No token", "ComfyUI has no login"):
        assert words in said
    assert "more than one replica without the gateway" in notes("--set", "autoscaling.replicas=2")
    assert "Pool flux" in notes("--values", str(CHART / "examples" / "pools.yaml"))


def test_every_value_is_explained() -> None:
    """values.yaml has every key that the schema knows, and README.md has it with what it means."""
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))

    assert SCHEMA["properties"].keys() == values.keys()
    for key, value in values.items():
        allowed = resolved(SCHEMA["properties"][key])
        if allowed.get("additionalProperties") is False and key != "pools":
            assert allowed["properties"].keys() == value.keys(), key
    assert readme_text() == README.read_text(encoding="utf-8"), "run: python -m tools.chart"
    explained = [
        one.key
        for one in table_rows((CHART / "values.yaml").read_text(encoding="utf-8"))
        if isinstance(one, Value)
    ]
    assert values.keys() <= set(explained)


def test_schema_of_the_settings() -> None:
    """The chart checks `preload` by the plugin's own schema."""
    assert values_text() == VALUES.read_text(encoding="utf-8"), "run: python -m tools.schema"
