"""`capture URL`: the settings for what a running ComfyUI was asked for, most used first.

Which nodes are loaders is asked of that server (/object_info): one that gives out a model and takes none.
"""

from __future__ import annotations

import argparse
import http.client
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult

from comfy_preload.cli.client import address, get
from comfy_preload.cli.output import remark, say, say_json
from comfy_preload.core.errors import PreloadError, problem
from comfy_preload.core.node_types import NodeSpec, declared
from comfy_preload.core.settings.validation import MAX_ENTRIES
from comfy_preload.core.settings.write import WrittenCall, as_entry, as_yaml, reading_back
from comfy_preload.core.workflow.loaders import is_loader

ANSWER_TIMEOUT = 60.0
"""Seconds for an answer.

/object_info looks into every model folder, and thousands of prompts may be in the history.
"""


@dataclass
class Capture:
    """What was found. `uses`: in how many prompts each call was, most first."""

    prompts: int = 0
    uses: dict[WrittenCall, int] = field(default_factory=dict[WrittenCall, int])
    warnings: dict[str, None] = field(default_factory=dict[str, None])


def run(options: argparse.Namespace) -> int:
    """1 if there was nothing to capture."""
    if options.output and options.output.exists() and not options.force:
        hint = "Choose another name, or --force to replace it."
        raise PreloadError(
            problem("output_refused", file=options.output.name, found="exists already", suggestion=hint)
        )
    found = gather(address(options.url))
    text, rows = write(found)
    if not rows:
        raise PreloadError(problem("capture_empty", prompts=found.prompts))
    if options.output:
        _save(options.output, text)
    if options.json:
        say_json({"prompts": found.prompts, "models": rows, "warnings": list(found.warnings), "yaml": text})
    elif not options.output:
        say(text.rstrip("\n"))
    for warning in found.warnings:
        remark(f"preload.py: {warning}")
    return 0


def _save(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise PreloadError(
            problem("output_failed", file=path.name, reason=error.strerror or "not writable")
        ) from error


def gather(server: SplitResult) -> Capture:
    """Ask the server. Raises PreloadError: server_unreachable, server_answer."""
    known = _ask(server, "/object_info")
    prompts = [*_prompts_of_history(_ask(server, "/history")), *_prompts_of_queue(_ask(server, "/queue"))]
    found = Capture(len(prompts))
    for prompt in reversed(prompts):  # of two that were used as often, the later one first
        for call in dict.fromkeys(_calls(prompt, known, found.warnings)):
            found.uses[call] = found.uses.get(call, 0) + 1
    found.uses = dict(sorted(found.uses.items(), key=lambda item: -item[1]))
    return found


def _ask(server: SplitResult, path: str) -> dict[str, Any]:
    try:
        answer = get(server, path, ANSWER_TIMEOUT)
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise PreloadError(problem("server_unreachable", path=path, reason=reason)) from error
    body = answer.json()
    if answer.status != 200 or not isinstance(body, dict):
        raise PreloadError(problem("server_answer", path=path, found=f"status {answer.status}"))
    return body


def _prompts_of_history(history: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Oldest first. Each is kept as [number, id, prompt, extra_data, outputs]."""
    for entry in history.values():
        yield from _graph(entry.get("prompt") if isinstance(entry, dict) else None)


def _prompts_of_queue(queue: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for waiting in ("queue_running", "queue_pending"):
        for item in queue.get(waiting) or ():
            yield from _graph(item)


def _graph(item: Any) -> Iterator[dict[str, Any]]:
    if isinstance(item, list) and len(item) > 2 and isinstance(item[2], dict):
        yield item[2]


def _calls(
    prompt: Mapping[str, Any], known: Mapping[str, Any], warnings: dict[str, None]
) -> Iterator[WrittenCall]:
    for node in prompt.values():
        loader = node.get("class_type") if isinstance(node, dict) else None
        spec = _spec(loader, known)
        if spec is None or not is_loader(spec):
            continue
        given = node.get("inputs") or {}
        inputs = {wanted.name: given[wanted.name] for wanted in spec.inputs if wanted.name in given}
        linked = [name for name, value in inputs.items() if isinstance(value, list)]
        plain = all(value is None or isinstance(value, str | int | float) for value in inputs.values())
        if linked:
            warnings[f"a {spec.name} takes its {' and '.join(linked)} from another node; it is left out"] = (
                None
            )
        elif not plain:
            warnings[f"a {spec.name} has an input that is not a plain value; it is left out"] = None
        else:
            yield WrittenCall.of(spec.name, inputs)


def _spec(loader: Any, known: Mapping[str, Any]) -> NodeSpec | None:
    """What the server says of a node class; its words are those of INPUT_TYPES()."""
    info = known.get(loader) if isinstance(loader, str) else None
    if not isinstance(info, dict) or not isinstance(info.get("input"), dict):
        return None
    return declared(str(loader), info["input"], info.get("output") or ())


def write(found: Capture) -> tuple[str, list[dict[str, Any]]]:
    """The YAML, and a row for each entry in it.

    What our own settings would complain about is left out with a warning.
    """
    lines = [f"# What ComfyUI was asked for in {found.prompts} prompts, most used first.", "models:"]
    rows: list[dict[str, Any]] = []
    for call, uses in found.uses.items():
        row = as_entry(call)
        written = as_yaml(row)
        complaint = reading_back(call, written)
        if complaint or len(rows) == MAX_ENTRIES:
            found.warnings[
                f"{call.loader} is left out: {complaint or f'no more than {MAX_ENTRIES} entries are allowed'}"
            ] = None
            continue
        lines += [f"  # in {uses} of {found.prompts}", *(f"  {line}" for line in written.splitlines())]
        rows.append({"uses": uses, "loader": call.loader, "inputs": dict(call.inputs), "entry": row})
    return "\n".join(lines) + "\n", rows
