"""The JSON schema, the shipped settings and the examples say the same as the code."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from comfy_preload.core.settings.document import read
from comfy_preload.core.settings.glance import PASSIVE_KEYS
from comfy_preload.core.settings.schema import ENTRIES, Options, SettingsFile, json_schema
from comfy_preload.core.settings.validation import validate
from comfy_preload.core.text import stem
from tools.host import ROOT

CONFIG = ROOT / "config"
SHIPPED = [CONFIG / "preload.yaml", *sorted((CONFIG / "examples").glob("*.yaml"))]


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    """The schema file, as an editor uses it."""
    return Draft202012Validator(json.loads((CONFIG / "preload.schema.json").read_text(encoding="utf-8")))


def test_file_is_current() -> None:
    """config/preload.schema.json is what tools/schema.py writes."""
    tool = runpy.run_path(str(ROOT / "tools" / "schema.py"))

    assert tool["text"]() == (CONFIG / "preload.schema.json").read_text(encoding="utf-8"), (
        "run: python tools/schema.py"
    )


def test_is_a_schema() -> None:
    """It is a schema of the dialect it names."""
    Draft202012Validator.check_schema(json_schema())


def test_every_key_is_explained() -> None:
    """An editor has something to show for every key."""
    schema = json_schema()

    assert [] == [
        f"{title}.{key}"
        for title, definition in {"file": schema, **schema["$defs"]}.items()
        for key, value in definition["properties"].items()
        if "description" not in value
    ]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.name)
def test_shipped_file(path: Path, validator: Draft202012Validator, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shipped settings and every example are in order, for the schema and for the code."""
    monkeypatch.delenv("PRELOAD_CONFIG", raising=False)
    document = read(path)
    settings = validate(document)

    assert [] == [error.message for error in validator.iter_errors(document.data)]
    assert () == settings.problems
    assert [()] * len(settings.entries) == [entry.problems for entry in settings.entries]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.name)
def test_shipped_file_names_the_schema(path: Path) -> None:
    """The first line reports editors where the schema is, relative to the file."""
    first = path.read_text(encoding="utf-8").splitlines()[0]

    assert first.startswith("# yaml-language-server: $schema=")
    assert (CONFIG / "preload.schema.json") == (path.parent / first.partition("=")[2]).resolve()


def test_shipped_file_does_nothing() -> None:
    """As shipped, nothing is preloaded."""
    assert {"models": None, "workflows": None} == read(CONFIG / "preload.yaml").data


@pytest.mark.parametrize(
    "data",
    [
        pytest.param([], id="list"),
        pytest.param({"model": []}, id="unknown-key"),
        pytest.param({"when": "later"}, id="when"),
        pytest.param({"timeout": 0}, id="timeout"),
        pytest.param({"models": {"vae": "a"}}, id="models-mapping"),
        pytest.param({"models": [{}]}, id="empty-entry"),
        pytest.param({"models": [{"checkpoint": 5}]}, id="number"),
        pytest.param({"models": [{"clip": []}]}, id="no-clip"),
        pytest.param({"models": [{"vae": "a", "device": "cpu"}]}, id="device"),
        pytest.param({"models": [{"vae": "a", "name": "a/b"}]}, id="slash"),
        pytest.param({"models": [{"loader": "L", "input": {}}]}, id="unknown-entry-key"),
        pytest.param({"models": [{"loader": "L", "inputs": {"a": [1]}}]}, id="nested"),
    ],
)
def test_schema_refuses(data: Any, validator: Draft202012Validator) -> None:
    """An editor marks what the code refuses."""
    assert not validator.is_valid(data)


def test_frozen() -> None:
    """Settings do not change once read."""
    with pytest.raises(ValueError, match="frozen"):
        Options().timeout = 5


def test_keys() -> None:
    """The file's keys are the options and the two lists; each kind of entry has its own key."""
    assert {*Options.model_fields, "models", "workflows"} == set(SettingsFile.model_fields)
    assert PASSIVE_KEYS == SettingsFile.model_fields.keys() - {"registry", "snapshot"}
    assert dict.fromkeys(ENTRIES, True) == {
        key: model.model_fields[key].is_required() for key, model in ENTRIES.items()
    }


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("a.safetensors", "a"),
        ("d/a.b.ckpt", "a.b"),
        ("d\\a.pt", "a"),
        ("taesd", "taesd"),
        (".hidden", ".hidden"),
        ("/", "/"),
    ],
    ids=["file", "folder", "windows", "no-ending", "hidden", "slash"],
)
def test_stem(file: str, name: str) -> None:
    """A file's name without folder and ending, and never empty."""
    assert name == stem(file)
