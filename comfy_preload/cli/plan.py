"""`plan`: what would be loaded, in order."""

from __future__ import annotations

import argparse

from comfy_preload.cli.inspection import say_findings, survey, survey_json
from comfy_preload.cli.output import say, say_json, table
from comfy_preload.core.node_types import Value
from comfy_preload.core.text import gigabytes


def run(options: argparse.Namespace) -> int:
    """Exit code 1 if any of it could not be loaded."""
    found = survey(options)
    if options.json:
        say_json(survey_json(found))
        return 0 if found.good else 1
    rows = [
        (
            str(number),
            call.name,
            call.entry.loader or "?",
            ", ".join(
                f"{name}: {_written(value)}"
                for name, value in (call.target.inputs if call.target else {}).items()
            ),
            gigabytes(found.bytes[call.name]),
            call.entry.device,
            "required" if call.entry.required else "optional",
        )
        for number, call in enumerate(found.plan.calls, 1)
    ]
    if rows:
        table("Plan", ("", "name", "loader", "inputs", "size", "device", ""), rows, right=(0, 4))
    say(f"{len(rows)} models, {gigabytes(found.total)} to read" if rows else "nothing to preload")
    say_findings(found)
    return 0 if found.good else 1


def _written(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
