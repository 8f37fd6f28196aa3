"""A workflow file -> the prompt that ComfyUI's editor would send for it.

Reads both formats: the prompt itself ("API format"), and what the editor saves. Bad input raises nothing but PreloadError,
and that only if the whole file is no workflow; one bad node costs what hangs on it, and is told.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from comfy_preload.core.errors import PreloadError, Problem, problem
from comfy_preload.core.node_types import NodeTypes
from comfy_preload.core.workflow.flatten import Flatten, Prompt
from comfy_preload.core.workflow.graph import identifier, read, shown
from comfy_preload.core.workflow.subgraphs import Known

MAX_BYTES = 20 << 20
MAX_PROBLEMS = 100
NEWEST_SCHEMA = 1
"""0.4 is what the editor writes; 1 has links as objects."""


@dataclass(frozen=True)
class Workflow:
    """`prompt` is ready to be queued: {node id: {"class_type": …, "inputs": {…}}}."""

    prompt: Mapping[str, Mapping[str, Any]]
    problems: tuple[Problem, ...] = ()
    editor: Mapping[str, Any] | None = None
    """The workflow as the editor saved it, where the file holds that."""


def read_file(path: Path, name: str) -> bytes:
    """Read a workflow file, at most one byte more than `load` accepts. Raises PreloadError: file_unreadable, for `name`."""
    try:
        with path.open("rb") as stream:
            return stream.read(MAX_BYTES + 1)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise PreloadError(problem("file_unreadable", file=name, reason=reason)) from error


def parse(text: bytes | str, types: NodeTypes) -> Workflow:
    """Read a workflow. Raises PreloadError: workflow_too_large, workflow_syntax, workflow_unknown_format."""
    data = load(text)
    known = Known(types)
    problems: list[Problem] = []
    read_as = _editor if is_editor_file(data) else _api
    prompt = read_as(data, known, problems)
    _cut_cycles(prompt, problems)
    found = tuple(dict.fromkeys([*known.problems, *problems]))[:MAX_PROBLEMS]
    return Workflow(prompt, found, data if is_editor_file(data) else None)


def load(text: bytes | str) -> dict[str, Any]:
    """The JSON object of a workflow in either format, a wrapped prompt unwrapped. Raises as `parse` does."""
    size = len(text) if isinstance(text, bytes) else len(text.encode(errors="replace"))
    if size > MAX_BYTES:
        raise PreloadError(problem("workflow_too_large", found=f"{size} bytes", expected=f"{MAX_BYTES}"))
    try:
        written = text.decode("utf-8-sig") if isinstance(text, bytes) else text
        data: Any = json.loads(written, parse_constant=lambda _: None)
    except RecursionError as error:
        raise PreloadError(
            problem("workflow_too_large", found="values nested too deep", expected="some hundred levels")
        ) from error
    except ValueError as error:
        raise PreloadError(problem("workflow_syntax", reason=shown(error, 200))) from error
    if isinstance(data, dict) and isinstance(data.get("prompt"), dict) and "class_type" not in data["prompt"]:
        data = data["prompt"]
    if not isinstance(data, dict):
        raise PreloadError(problem("workflow_unknown_format", found=f"a {_JSON.get(type(data), 'value')}"))
    if is_editor_file(data) or any(_is_node(node) for node in data.values()):
        return data
    keys = ", ".join(shown(key, 20) for key in list(data)[:3])
    raise PreloadError(problem("workflow_unknown_format", found=f"an object with {keys or 'nothing in it'}"))


_JSON = {list: "list", str: "text", int: "number", float: "number", bool: "truth value", type(None): "null"}


def is_editor_file(data: Mapping[str, Any]) -> bool:
    return isinstance(data.get("nodes"), list)


def _is_node(node: Any) -> bool:
    return isinstance(node, dict) and isinstance(node.get("class_type"), str)


def _editor(data: Mapping[str, Any], known: Known, problems: list[Problem]) -> Prompt:
    version = data.get("version")
    if isinstance(version, int | float) and version > NEWEST_SCHEMA:
        problems.append(problem("workflow_version", found=shown(version), expected=str(NEWEST_SCHEMA)))
    graph, subgraphs, unread = read(data)
    flatten = Flatten(graph, subgraphs, known)
    prompt = flatten.prompt()
    problems += [*unread, *flatten.problems]
    for name, node in flatten.unknown.items():
        _tell_unknown(name, node.type, node.plugin, problems)
    return prompt


def _api(data: Mapping[str, Any], known: Known, problems: list[Problem]) -> Prompt:
    prompt: Prompt = {}
    data = known.renewed(data)
    for name, node in data.items():
        inputs = node.get("inputs", {}) if _is_node(node) else None
        if not isinstance(inputs, dict):
            reason = "its inputs are no object" if _is_node(node) else "it has no class_type"
            problems.append(problem("workflow_node_invalid", node=shown(name), reason=reason))
        elif known.spec(node["class_type"]) is None:
            _tell_unknown(name, node["class_type"], "", problems)
        else:
            prompt[name] = {"class_type": node["class_type"], "inputs": dict(inputs)}
    for name, node in prompt.items():
        for key, value in list(node["inputs"].items()):
            source = linked(value)
            if source in prompt:
                node["inputs"][key] = [source, value[1]]
            elif source is not None:
                if source not in data:
                    problems.append(problem("workflow_link_missing", node=shown(name), input=shown(key)))
                del node["inputs"][key]
    return prompt


def linked(value: Any) -> str | None:
    """The node that an input of a prompt is linked to, or None for a plain value."""
    is_link = (
        isinstance(value, list)
        and len(value) == 2
        and isinstance(value[0], str | int)
        and isinstance(value[1], int)
    )
    return identifier(value[0]) if is_link else None


def _tell_unknown(name: str, class_type: str, plugin: str, problems: list[Problem]) -> None:
    brings = (
        f"Install the plugin that brings it: {plugin}."
        if plugin
        else "Is the plugin that brings it installed?"
    )
    problems.append(
        problem("workflow_node_unknown", node=shown(name), type=shown(class_type), suggestion=brings)
    )


def _cut_cycles(prompt: Prompt, problems: list[Problem]) -> None:
    """Leave out nodes that wait for themselves: ComfyUI would refuse the whole prompt, or hang in it."""
    wanted = {
        name: {s for s in map(linked, node["inputs"].values()) if s in prompt}
        for name, node in prompt.items()
    }
    users: dict[str, list[str]] = {}
    for name, sources in wanted.items():
        for source in sources:
            users.setdefault(str(source), []).append(name)
    free = [name for name, sources in wanted.items() if not sources]
    while free:
        done = free.pop()
        del wanted[done]
        for user in users.get(done, []):
            wanted[user].discard(done)
            if not wanted[user]:
                free.append(user)
    for name in wanted:  # in a cycle, or behind one
        problems.append(problem("workflow_cycle", node=shown(name)))
        del prompt[name]
