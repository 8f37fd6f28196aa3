"""The documents say what the code does.

Every name is there, every example works, every link leads somewhere.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from comfy_preload.api import json_bodies as body
from comfy_preload.api.routes import register
from comfy_preload.core.settings.document import MAX_BYTES, MAX_DEPTH, MAX_VALUES, parse
from comfy_preload.core.settings.schema import ENTRIES, json_schema
from comfy_preload.core.settings.validation import MAX_ENTRIES, validate
from comfy_preload.core.state.snapshot import ModelState, Status
from tests.support.snapshots import OpenDoor, full, snapshot
from tools.host import ROOT

DOCS = sorted([*ROOT.glob("docs/**/*.md"), *ROOT.glob("*.md")])
_BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)|(?:src|href)=\"([^\"]+)\"")


def text(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def named(word: str) -> re.Pattern[str]:
    """The word as code: alone, as the last part of a dotted name, or as a key with its value."""
    return re.compile(rf"`(?:[\w.*]+\.)?{re.escape(word)}(?:: [^`]*)?`")


def keys(tree: Any) -> Iterator[str]:
    """Every key of a JSON body but those that are names of models."""
    for key, value in tree.items() if isinstance(tree, dict) else ():
        yield key
        for below in value.values() if key in ("failing", "misses") else [value]:
            yield from keys(below)
    for value in tree if isinstance(tree, list) else ():
        yield from keys(value)


def blocks(*languages: str) -> list[Any]:
    found: list[Any] = []
    for path in DOCS:
        content = path.read_text(encoding="utf-8")
        for match in _BLOCK.finditer(content):
            if match[2] in languages:
                line = content.count("\n", 0, match.start()) + 1
                lines = match[3].splitlines(keepends=True)
                found.append(
                    pytest.param("".join(row[len(match[1]) :] for row in lines), id=f"{path.name}:{line}")
                )
    return found


def fields() -> list[str]:
    """Every field of every body, from a snapshot in which nothing is left out."""
    whole = full()
    bodies = (
        body.ready(whole, stages=True),
        body.everything(whole),
        body.model(whole.models[0]),
        body.prompt(whole.prompts[0]),
    )
    return sorted({key for one in bodies for key in keys(one)})


def options() -> list[str]:
    schema = json_schema()
    models = [schema, *schema["$defs"].values()]
    return sorted({key for one in models for key in one["properties"]} | set(ENTRIES))


@pytest.mark.parametrize("key", options())
def test_settings_key(key: str) -> None:
    """docs/settings.md explains every key of the file, of its parts and of an entry."""
    assert named(key).search(text("settings.md"))


@pytest.mark.parametrize(
    "key",
    [k for k, v in json_schema()["properties"].items() if not isinstance(v.get("default"), dict | None)],
)
def test_settings_default(key: str) -> None:
    """docs/settings.md gives the default of every key of the file."""
    default = json_schema()["properties"][key]["default"]
    assert (
        f"| `{key}` | `{default:g}` |"
        if isinstance(default, float)
        else f"| `{key}` | `{default}` |" in text("settings.md")
    )


@pytest.mark.parametrize(
    "limit",
    [
        f"{MAX_BYTES >> 20} MiB",
        f"{MAX_VALUES:,}".replace(",", " "),
        f"{MAX_DEPTH} levels",
        f"| {MAX_ENTRIES} |",
    ],
)
def test_limit(limit: str) -> None:
    """docs/settings.md reports the limits as they are."""
    assert limit in text("settings.md")


@pytest.mark.parametrize("field", fields())
def test_field(field: str) -> None:
    """docs/http.md explains every field of every answer."""
    assert named(field).search(text("http.md"))


@pytest.mark.parametrize("word", sorted({s.value for s in (*Status, *ModelState)}))
def test_status_and_state(word: str) -> None:
    """docs/http.md has a row for every status and every state."""
    assert f"\n| `{word}` |" in text("http.md")


@pytest.mark.parametrize("word", sorted({s.value for s in (*Status, *ModelState)}))
def test_glossary(word: str) -> None:
    """A status or a state has one definition: docs/glossary.md and docs/http.md give the same."""
    rows = rf"^\| `{word}` \|(?:.* \|)? ([^|]+) \|$"
    here, there = (re.findall(rows, text(name), re.MULTILINE) for name in ("glossary.md", "http.md"))

    assert here
    assert set(here) <= set(there)


def test_decisions() -> None:
    """docs/decisions/README.md lists every decision, and no other."""
    files = {path.name for path in (ROOT / "docs" / "decisions").glob("0*.md")}
    assert files == set(re.findall(r"^\| \[\d+\]\(([\w.-]+)\)", text("decisions/README.md"), re.MULTILINE))


def test_routes() -> None:
    """docs/http.md has every route, and no other."""
    table = web.RouteTableDef()
    register(table, snapshot, OpenDoor())

    routes = {
        f"{r.method} {r.path.replace(':[^/]+', '')}"
        for r in table
        if isinstance(r, web.RouteDef) and r.method != "OPTIONS"
    }
    assert routes == set(re.findall(r"^\| `([A-Z]+ \S+)`", text("http.md"), re.MULTILINE))


@pytest.mark.parametrize("block", blocks("yaml"))
def test_settings_example(block: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every `yaml` block is a settings file without a problem, if its variables are set."""
    for name in re.findall(r"\$\{(\w+)\}", block):
        monkeypatch.setenv(name, "x")
    settings = validate(parse(block))

    assert () == settings.problems
    assert [()] * len(settings.entries) == [entry.problems for entry in settings.entries]


@pytest.mark.parametrize("block", blocks("yml"))
def test_other_yaml_example(block: str) -> None:
    """Other YAML stands in `yml` blocks, and is YAML."""
    assert yaml.safe_load(block)


@pytest.mark.parametrize("block", blocks("json"))
def test_json_example(block: str) -> None:
    """Every `json` block is JSON, and has only fields that there are."""
    unknown = set(keys(json.loads(block))) - set(fields())

    assert unknown <= {"items", "live"}


@pytest.mark.parametrize("path", DOCS, ids=lambda p: str(p.relative_to(ROOT)))
def test_links(path: Path) -> None:
    """Every link within the repository leads to a file, and to a heading if it names one."""
    content = _BLOCK.sub("", path.read_text(encoding="utf-8"))
    for link in (a or b for a, b in _LINK.findall(content)):
        if re.match(r"\w+:", link):
            continue
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        assert target.exists(), f"{path.name}: {link}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in [
                re.sub(r"[^\w\- ]", "", h).strip().lower().replace(" ", "-") for h in headings
            ], link


@pytest.mark.parametrize("path", DOCS, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_machine_path(path: Path) -> None:
    """No document holds a path of the machine it was written on."""
    assert not re.search(r"/(?:root|home|work|tmp|Users)/\w", path.read_text(encoding="utf-8"))
