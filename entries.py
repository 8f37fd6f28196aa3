"""The lines of preload.yaml for the loaders of one graph, as the panel shows them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from .cli import capture
from .core.node_types import NodeTypes
from .core.workflow import parse
from .core.workflow_loaders import loader_calls


def lines_for(prompt: Mapping[str, Any], types: NodeTypes) -> str:
    """YAML list items; what cannot be written stands there as a comment. Raises PreloadError if it is no workflow."""
    lines: dict[str, None] = {}
    for call in loader_calls(parse(json.dumps(prompt), types), types):
        entry = capture.as_call(call.class_type, call.inputs)
        text = capture.text(capture.entry(entry))
        wrong = "; ".join(p.message for p in call.problems) or capture.wrong(entry, text)
        lines[f"# {call.class_type} is left out: {' '.join(wrong.split())}" if wrong else text] = None
    return "".join(f"{text}\n" for text in lines)
