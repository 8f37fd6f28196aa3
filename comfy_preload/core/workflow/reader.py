"""A workflow file -> the prompt that ComfyUI's editor would send for it.

Reads both formats: the prompt itself ("API format"), and what the editor saves. Bad input raises nothing but
PreloadError, and that only if the whole file is not a workflow; one bad node costs what depends on it, and is
reported.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from comfy_preload.core.errors import PreloadError, Problem, problem
from comfy_preload.core.node_types import NodeTypes
from comfy_preload.core.workflow.embedded import MAX_BYTES, text_of
from comfy_preload.core.workflow.flatten import Flatten
from comfy_preload.core.workflow.graph import definitions, identifier, read, shown
from comfy_preload.core.workflow.group_nodes import group_nodes
from comfy_preload.core.workflow.model_names import model_names
from comfy_preload.core.workflow.subgraphs import Known
from comfy_preload.core.workflow.unknown import Foreign, Prompt, linked, links_of, settle, users_of
from comfy_preload.core.workflow.use_everywhere import with_links

MAX_PROBLEMS = 100
MAX_WRAPPERS = 6
"""Levels at which a workflow is searched for in what is around it."""
MAX_PARTS = 1000
"""Values of one level that are looked at."""
NEWEST_SCHEMA = 1
"""0.4 is what the editor writes; 1 has links as objects."""


@dataclass(frozen=True)
class Workflow:
    """`prompt` is ready to be queued: {node id: {"class_type": …, "inputs": {…}}}."""

    prompt: Mapping[str, Mapping[str, Any]]
    problems: tuple[Problem, ...] = ()
    """What was left out or not understood: warnings, as long as nobody has to run it."""
    live: frozenset[str] = frozenset()
    """Nodes from which an output node is reached; all of them where there is none."""
    lost: Mapping[str, Mapping[str, Problem]] = field(default_factory=dict[str, Mapping[str, Problem]])
    """By node and input: why it is linked to nothing. At the input "": why the node itself is left out."""
    foreign: Mapping[str, Foreign] = field(default_factory=dict[str, Foreign])
    """Nodes of unknown classes."""
    editor: Mapping[str, Any] | None = None
    """The workflow as the editor saved it, where the file holds that."""
    unsent: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    """By node: model files in the file and not in the prompt.

    Another node decides, or a plugin's own script.
    """


_Read = tuple[Prompt, dict[str, Foreign], dict[str, tuple[str, ...]]]


def read_file(path: Path, name: str) -> bytes:
    """Read the text of a workflow: a JSON file, or what an image has in it.

    Raises PreloadError, for `name`.
    """
    try:
        with path.open("rb") as stream:
            return text_of(stream)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise PreloadError(problem("file_unreadable", file=name, reason=reason)) from error


def parse(text: bytes | str, types: NodeTypes) -> Workflow:
    """Read a workflow. Raises PreloadError: workflow_too_large, workflow_syntax, workflow_unknown_format."""
    data = load(text)
    known = Known(types)
    problems: list[Problem] = []
    read_as = _editor if is_editor_file(data) else _api
    prompt, foreign, unsent = read_as(data, known, problems)
    settled = settle(prompt, foreign, known.is_output)
    problems += settled.problems.values()
    cut = _cut_cycles(settled.prompt)
    problems += cut.values()
    found = tuple(dict.fromkeys([*known.problems, *problems]))[:MAX_PROBLEMS]
    lost = {**settled.lost, **{name: {"": wrong} for name, wrong in cut.items()}}
    return Workflow(
        settled.prompt, found, settled.live, lost, foreign, data if read_as is _editor else None, unsent
    )


def load(text: bytes | str) -> dict[str, Any]:
    """The JSON object of a workflow in either format, taken out of what is around it.

    Raises as `parse` does.
    """
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
    found = _unwrapped(data)
    if found is not None:
        return found
    if not isinstance(data, dict):
        raise PreloadError(problem("workflow_unknown_format", found=f"a {_JSON.get(type(data), 'value')}"))
    keys = ", ".join(shown(key, 20) for key in list(data)[:3])
    raise PreloadError(problem("workflow_unknown_format", found=f"an object with {keys or 'nothing in it'}"))


_JSON = {list: "list", str: "text", int: "number", float: "number", bool: "truth value", type(None): "null"}


def _unwrapped(data: Any) -> dict[str, Any] | None:
    """The workflow in a request to a server or an entry of a history, at whatever key; None if there is none.

    The outermost one counts; of two at the same depth the prompt, which needs no node classes to be read.
    """
    level = [data]
    for _ in range(MAX_WRAPPERS):
        inside: list[Any] = []
        editor: dict[str, Any] | None = None
        for given in level:
            value = _from_text(given) if isinstance(given, str) else given
            if isinstance(value, dict) and is_editor_file(value):
                editor = editor or value
            elif isinstance(value, dict) and any(map(_is_node, value.values())):
                return value
            elif isinstance(value, dict | list):
                inside += islice(value.values() if isinstance(value, dict) else value, MAX_PARTS)
        if editor is not None:
            return editor
        level = inside[:MAX_PARTS]
    return None


def _from_text(text: str) -> Any:
    """What a text holds that is JSON itself; else nothing."""
    if text.lstrip()[:1] not in ("{", "["):
        return None
    try:
        return json.loads(text, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        return None


def is_editor_file(data: Mapping[str, Any]) -> bool:
    return isinstance(data.get("nodes"), list)


def _is_node(node: Any) -> bool:
    return isinstance(node, dict) and isinstance(node.get("class_type"), str)


def _editor(data: Mapping[str, Any], known: Known, problems: list[Problem]) -> _Read:
    version = data.get("version")
    if isinstance(version, int | float) and version > NEWEST_SCHEMA:
        problems.append(problem("workflow_version", found=shown(version), expected=str(NEWEST_SCHEMA)))
    graph, subgraphs, unread = read(data)
    for written in definitions(data):
        key = identifier(written.get("id"))
        subgraphs[key] = with_links(subgraphs[key], written)
    flatten = Flatten(with_links(graph, data), group_nodes(data, known.spec) | subgraphs, known)
    prompt = flatten.prompt()
    problems += [*unread, *flatten.problems]
    return prompt, flatten.foreign, flatten.unsent


def _api(data: Mapping[str, Any], known: Known, problems: list[Problem]) -> _Read:
    prompt: Prompt = {}
    foreign: dict[str, Foreign] = {}
    data = known.renewed(data)
    for name, node in data.items():
        inputs = node.get("inputs", {}) if _is_node(node) else None
        if not isinstance(inputs, dict):
            reason = "its inputs are no object" if _is_node(node) else "it has no class_type"
            problems.append(problem("workflow_node_invalid", node=shown(name), reason=reason))
            continue
        prompt[name] = {"class_type": node["class_type"], "inputs": dict(inputs)}
        if known.spec(node["class_type"]) is None:
            ends = any(linked(value) is not None for value in inputs.values())
            files = tuple(dict.fromkeys(model_names(inputs)))
            foreign[name] = Foreign(node["class_type"], may_end=ends, files=files)
    for name, node in prompt.items():
        for key, value in list(node["inputs"].items()):
            source = linked(value)
            if source in prompt:
                node["inputs"][key] = [source, value[1]]
            elif source is not None:
                if source not in data:
                    problems.append(problem("workflow_link_missing", node=shown(name), input=shown(key)))
                del node["inputs"][key]
    return prompt, foreign, {}


def _cut_cycles(prompt: Prompt) -> dict[str, Problem]:
    """Leave out nodes that wait for themselves: ComfyUI would refuse the whole prompt, or hang in it."""
    waiting = {name: {s for _, s in links_of(node) if s in prompt} for name, node in prompt.items()}
    users = users_of(prompt)
    free = [name for name, sources in waiting.items() if not sources]
    while free:
        done = free.pop()
        del waiting[done]
        for user in users.get(done, []):
            if user in waiting:
                waiting[user].discard(done)
                if not waiting[user]:
                    free.append(user)
    for name in waiting:  # in a cycle, or behind one
        del prompt[name]
    return {name: problem("workflow_cycle", node=shown(name)) for name in waiting}
