"""Write docs/http.md from docs/openapi.yaml: `python -m tools.http_doc`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from comfy_preload.api import metrics
from tests.support import snapshots

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "docs" / "openapi.yaml"
FILE = ROOT / "docs" / "http.md"
WIDTH = 110
"""Maximum length of a line of JSON."""

Tree = dict[str, Any]


def text() -> str:
    """Return the content of docs/http.md."""
    source: Tree = yaml.safe_load(SOURCE.read_text(encoding="utf-8"))
    schemas: Tree = source["components"]["schemas"]
    own = {name for _, _, operation in operations(source) for name in operation.get("x-tables", ())}
    blocks = ["# HTTP", source["info"]["description"], "\n".join(_routes(source))]
    for method, path, operation in operations(source):
        blocks += [f"## `{method} {path}`", operation["description"]]
        blocks += ["\n".join(_metrics())] if operation.get("x-metrics") else []
        blocks += [_example(body) for body in _examples(operation)]
        for name in operation.get("x-tables", ()):
            schema = schemas[name]
            rows = _values(schema) if "oneOf" in schema else _fields(schema, schemas, own)
            intro = [schema["x-intro"]] if "x-intro" in schema else []
            blocks += [f"### {schema['title']}", *intro, "\n".join(rows)]
    return "\n\n".join(block.strip() for block in blocks) + "\n"


def operations(source: Tree) -> Iterator[tuple[str, str, Tree]]:
    """Yield (method, path, operation) in the order of the file."""
    for path, item in source["paths"].items():
        for method, operation in item.items():
            yield method.upper(), path, operation


def _routes(source: Tree) -> Iterator[str]:
    yield from ("| route | good | else |", "|---|---|---|")
    for method, path, operation in operations(source):
        responses: dict[str, Tree] = operation["responses"]
        good, *others = [f"{code}: {response['description']}" for code, response in responses.items()]
        shown = (
            "; ".join(others)
            if method == "GET"
            else f"see [below](#post-preloadreload): {', '.join(list(responses)[1:])}"
        )
        yield f"| `{method} {path}` | {good} | {shown} |"


def _examples(operation: Tree) -> Iterator[Any]:
    for response in operation["responses"].values():
        for media in response["content"].values():
            if "example" in media:
                yield media["example"]


def _example(body: Any) -> str:
    return f"```json\n{_json(body)}\n```"


def _json(value: Any, indent: str = "") -> str:
    """Format as JSON; objects that do not fit into a line are indented."""
    line = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, dict) or (len(indent + line) < WIDTH and indent):
        return line
    if len(line) < WIDTH and not any(isinstance(below, dict) for below in value.values()):
        return line
    below = ",\n".join(
        f"{indent}  {json.dumps(key)}: {_json(item, indent + '  ')}" for key, item in value.items()
    )
    return f"{{\n{below}\n{indent}}}"


def _values(schema: Tree) -> Iterator[str]:
    header: list[str] = schema["x-header"]
    yield from (f"| {' | '.join(header)} |", "|---" * len(header) + "|")
    for value in schema["oneOf"]:
        cells = [f"`{value['const']}`", *([value["title"]] if len(header) == 3 else []), value["description"]]
        yield f"| {' | '.join(cells)} |"


def _fields(schema: Tree, schemas: Tree, own: set[str]) -> Iterator[str]:
    yield from ("| field | meaning |", "|---|---|")
    yield from _rows(schema, "", schemas, own)


def _rows(schema: Tree, prefix: str, schemas: Tree, own: set[str]) -> Iterator[str]:
    """Yield a row for each described property, and for nested properties without their own table."""
    for name, field in schema["properties"].items():
        if "description" in field:
            yield f"| `{prefix}{name}` | {field['description']} |"
        reference = field.get("$ref", "").rpartition("/")[2]
        within = schemas[reference] if reference and reference not in own else field
        if "properties" in within:
            yield from _rows(within, f"{prefix}{name}.", schemas, own)


def _metrics() -> Iterator[str]:
    """Yield a row for each metric, from a complete snapshot."""
    yield from ("| metric | labels | meaning |", "|---|---|---|")
    for family in metrics.SnapshotCollector(snapshots.full(), connected=True).collect():
        labels = ", ".join(f"`{label}`" for label in family.samples[0].labels)
        suffix = "_total" if family.type == "counter" else ""
        yield f"| `{family.name}{suffix}` | {labels} | {family.documentation} |"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
    print(f"wrote {FILE.relative_to(ROOT)}")
