"""Write a loader call as an entry of `models:` in preload.yaml."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from comfy_preload.core.loader_table import BY_NAME
from comfy_preload.core.node_types import Value
from comfy_preload.core.settings.document import parse
from comfy_preload.core.settings.schema import ENTRIES, LoaderEntry
from comfy_preload.core.settings.validation import validate

_KEYS = frozenset({*ENTRIES, *LoaderEntry.model_fields})
"""Keys of an entry that are not inputs of its loader."""


@dataclass(frozen=True)
class WrittenCall:
    """One loader call, without the inputs that can be left out."""

    loader: str
    inputs: tuple[tuple[str, Value], ...]

    @classmethod
    def of(cls, loader: str, inputs: Mapping[str, Value]) -> WrittenCall:
        """Drop defaults: ComfyUI's editor always writes them, programs often do not."""
        defaults = BY_NAME[loader].defaults if loader in BY_NAME else {}
        kept = ((k, v) for k, v in inputs.items() if k not in defaults or v != defaults[k])
        return cls(loader, tuple(kept))


def as_entry(call: WrittenCall) -> dict[str, Any]:
    """Return the shorthand if no input clashes with its keys, else the loader with its inputs."""
    inputs, known = dict(call.inputs), BY_NAME.get(call.loader)
    if known and known.kind != "loader":
        files = [inputs.get(name) for name in known.files]
        rest = {name: value for name, value in inputs.items() if name not in known.files}
        if all(isinstance(file, str) for file in files) and not rest.keys() & _KEYS:
            return {known.kind: files[0] if len(files) == 1 else files, **rest}
    return {"loader": call.loader, **({"inputs": inputs} if inputs else {})}


def as_yaml(row: dict[str, Any]) -> str:
    """Format a list item: one key per line, lists and inputs on one line."""
    lines: list[str] = []
    for key, value in row.items():
        flow = None if isinstance(value, list | dict) else False
        dumped: str = yaml.safe_dump(
            {key: value}, sort_keys=False, allow_unicode=True, default_flow_style=flow, width=10_000
        )
        lines += dumped.splitlines()
    return "- " + "\n  ".join(lines)


def reading_back(call: WrittenCall, written: str) -> str:
    """Return why the YAML does not mean the same call, or an empty text.

    `${…}` in a file name does not, for example.
    """
    entries = validate(parse(f"models:\n{written}\n")).entries
    problems: Iterable[str] = (p.message for entry in entries for p in entry.problems)
    if complaint := "; ".join(problems):
        return complaint
    same = [(entry.loader, dict(entry.inputs)) == (call.loader, dict(call.inputs)) for entry in entries]
    return "" if same == [True] else f"it cannot be written as YAML: {json.dumps(dict(call.inputs))[:200]}"
