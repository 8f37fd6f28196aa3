"""The lines of preload.yaml for the loaders of one graph, as the panel asks for them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from comfy_preload.core.node_types import NodeTypes
from comfy_preload.core.settings.document import parse as parse_settings
from comfy_preload.core.settings.edit import add, read_text, tag_of
from comfy_preload.core.settings.validation import validate
from comfy_preload.core.settings.write import WrittenCall, as_entry, as_yaml, reading_back
from comfy_preload.core.workflow.loaders import loader_calls
from comfy_preload.core.workflow.reader import parse


def entries(
    file: Path, prompt: Mapping[str, Any], types: NodeTypes, tag: str | None = None
) -> tuple[str, str]:
    """See `core.state.jobs.Door.entries`."""
    text = read_text(file)
    lines = lines_for(prompt, types, text)
    if tag is not None:
        text = add(file, text, lines, tag)
    return lines, tag_of(text)


def lines_for(prompt: Mapping[str, Any], types: NodeTypes, settings: str = "") -> str:
    """Return YAML list items for the loaders that `settings` does not list yet.

    A comment for what cannot be written.

    Raises PreloadError if the graph is not a workflow, or the settings are not YAML.
    """
    listed = [(entry.loader, dict(entry.inputs)) for entry in validate(parse_settings(settings)).entries]
    lines: dict[str, None] = {}
    found = loader_calls(parse(json.dumps(prompt), types), types)
    for call in found.calls:
        written = WrittenCall.of(call.class_type, call.inputs)
        text = as_yaml(as_entry(written))
        fed = ", ".join(f"'{name}'" for name in call.links)
        linked = f"{fed} comes from another node: list the workflow instead" if fed else ""
        wrong = linked or reading_back(written, text)
        parsed = validate(parse_settings(f"models:\n{text}\n")).entries
        if wrong:
            lines[f"# {call.class_type} is left out: {' '.join(wrong.split())}"] = None
        elif all((one.loader, dict(one.inputs)) not in listed for one in parsed):
            lines[text] = None
    for one in found.left:
        lines[f"# {one.class_type} is left out: {' '.join(one.problem.message.split())}"] = None
    return "".join(f"{text}\n" for text in lines)
