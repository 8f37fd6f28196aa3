"""Settings + what this ComfyUI has -> Plan: loader calls, complete, deduplicated, in order.

Looks names up, opens no file. A call with problems stays in the plan, to be reported as failed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from comfy_preload.core.errors import Problem, failure, problem
from comfy_preload.core.host import GraphNode, Loaders, ModelFile
from comfy_preload.core.node_types import NO_DEFAULT, PLAIN_TYPES, LoaderSpec, NodeInput
from comfy_preload.core.planning.call import LoaderCall, Target, call_key
from comfy_preload.core.settings.document import BACKSLASHES
from comfy_preload.core.settings.entry import Entry
from comfy_preload.core.text import did_you_mean, nearest, stem, without_paths
from comfy_preload.core.workflow.unknown import linked, reached_from


@dataclass(frozen=True)
class Plan:
    calls: tuple[LoaderCall, ...]
    duplicates: tuple[tuple[str, str], ...] = ()
    """(entry left out, entry that already makes this call)"""

    def runnable(self) -> tuple[LoaderCall, ...]:
        return tuple(call for call in self.calls if not call.problems)


def build(entries: Iterable[Entry], host: Loaders) -> Plan:
    """Turn entries into calls. Only once all custom nodes are registered.

    Entries that come to the same call are one, also where the call cannot be made: it is required if one of
    them is.
    """
    calls: dict[str, LoaderCall] = {}
    duplicates: list[tuple[str, str]] = []
    specs: dict[str, LoaderSpec | None] = {}
    for entry in entries:
        try:
            call = _call(entry, host, specs)
        except Exception as error:  # noqa: BLE001 — a node's own INPUT_TYPES(): one bad class costs one entry
            wrong = failure(entry.loader, error)
            call = replace(uncalled(entry), problems=(replace(wrong, line=entry.line),))
        key = (call.target.key if call.target else _written_key(entry)) or call.name
        if key in calls and not entry.problems:
            duplicates.append((call.name, calls[key].name))
            calls[key] = _merged(calls[key], call)
        else:
            calls[call.name if entry.problems else key] = call
    return Plan(tuple(calls.values()), tuple(duplicates))


def _written_key(entry: Entry) -> str:
    """Return the key of a call that cannot be made: what the settings or the workflow say of it."""
    return call_key(entry.loader, {**entry.inputs, **(_feeds(entry, entry.node) if entry.node else {})})


def _merged(first: LoaderCall, other: LoaderCall) -> LoaderCall:
    if first.entry.required or not other.entry.required:
        return first
    return replace(first, entry=replace(first.entry, required=True))


def uncalled(entry: Entry) -> LoaderCall:
    """Return the call of an entry before anything was looked up."""
    return LoaderCall(entry, problems=entry.problems)


def _call(entry: Entry, host: Loaders, specs: dict[str, LoaderSpec | None]) -> LoaderCall:
    call = uncalled(entry)
    if entry.problems:
        return call
    if entry.loader not in specs:
        specs[entry.loader] = host.loader(entry.loader)
    spec = specs[entry.loader]
    if spec is None:
        return replace(call, problems=(_unknown(entry, host),))
    inputs, problems = _inputs(entry, spec, host)
    if any(wrong.code != "file_missing" for wrong in problems):
        return replace(call, problems=tuple(problems))
    node = entry.node or GraphNode("1", {"1": {"class_type": spec.name, "inputs": inputs}})
    key = call_key(spec.class_id, {**host.arguments(spec, inputs), **_feeds(entry, node)})
    if problems:  # a prompt may load it once the file is there
        return replace(call, target=Target(spec, inputs, (), key, node), problems=tuple(problems))
    changes = host.changes(spec, inputs, node)
    if changes is None:
        ever_new = problem("loader_changes", line=entry.line, loader=spec.name)
        # a workflow that has such a loader runs, so it is not failed for it
        return replace(
            uncalled(replace(entry, required=entry.required and not entry.node)), problems=(ever_new,)
        )
    return replace(
        call, target=Target(spec, inputs, _files(entry, spec, inputs, node, host), key, node, changes)
    )


def _files(
    entry: Entry, spec: LoaderSpec, inputs: Mapping[str, Any], node: GraphNode, host: Loaders
) -> tuple[ModelFile, ...]:
    """Return the files that the call reads, and those that the nodes before it name.

    LoRAs of a list, other models.
    """
    found = {file.path: file for file in host.files(spec, inputs)}
    for name in reached_from(node.prompt, [source for source, _ in entry.links.values()]):
        before = host.loader(node.prompt[name]["class_type"])
        given = node.prompt[name]["inputs"]
        found |= {file.path: file for file in host.files(before, given)} if before is not None else {}
    return tuple(found.values())


def _feeds(entry: Entry, node: GraphNode) -> dict[str, Any]:
    """What comes from other nodes, as a text: the nodes in the order of the links, without their names."""

    def form(link: Any) -> Any:
        source = linked(link)
        if source is None or source not in node.prompt:
            return link
        one = node.prompt[source]
        return [one["class_type"], {key: form(value) for key, value in one["inputs"].items()}, link[1]]

    return {name: form(list(link)) for name, link in entry.links.items()}


def _unknown(entry: Entry, host: Loaders) -> Problem:
    known = host.loader_names()
    failed = ", ".join(host.failed_imports())
    otherwise = (
        f"Or is it a node of a pack that ComfyUI could not import? IMPORT FAILED in its log: {failed}."
        if failed
        else "Is the pack that brings it installed?"
    )
    is_typo = not any(_is_variant(entry.loader, name) for name in known)
    suggestion = did_you_mean(entry.loader, known, otherwise) if is_typo else otherwise
    return problem(
        "loader_unknown", line=entry.line, loader=entry.loader, count=len(known), suggestion=suggestion
    )


def _is_variant(name: str, known: str) -> bool:
    """Return whether `name` is the name of another node made from `known`.

    Such as UNETLoaderMultiGPU, CLIPLoaderGGUF.
    """
    return known.lower() in name.lower() and len(name) > len(known) + 2


def _inputs(entry: Entry, spec: LoaderSpec, host: Loaders) -> tuple[dict[str, Any], list[Problem]]:
    """The entry's inputs checked, and required ones that it leaves out filled as the UI would."""
    known = [i.name for i in spec.inputs]
    problems = [
        problem(
            "input_unknown",
            line=entry.line,
            loader=spec.name,
            input=name,
            expected=", ".join(known) or "none",
            suggestion=did_you_mean(name, [*known, "name", "required", "device"], "Remove it."),
        )
        for name in entry.inputs
        if name not in known
    ]
    inputs: dict[str, Any] = {}
    for wanted in spec.inputs:
        if wanted.name in entry.links:
            continue
        if wanted.name in entry.inputs:
            value = _cast(entry.inputs[wanted.name], wanted.type)
            if wrong := _value_problem(entry, spec, wanted, value, host):
                problems.append(wrong)
            inputs[wanted.name] = value
        elif not wanted.required:
            continue
        elif wanted.type not in PLAIN_TYPES:
            values = {"loader": spec.name, "type": wanted.type, "input": wanted.name}
            problems.append(problem("loader_takes_model", line=entry.line, **values))
        elif wanted.default is not NO_DEFAULT and not wanted.folders:
            inputs[wanted.name] = wanted.default
        else:
            values = {"loader": spec.name, "input": wanted.name}
            problems.append(problem("input_missing", line=entry.line, **values))
    return inputs, problems


_CASTS: dict[str, Callable[[Any], Any]] = {"INT": int, "FLOAT": float, "STRING": str, "BOOLEAN": bool}


def _cast(value: Any, kind: str) -> Any:
    """Convert a value as `validate_inputs` of ComfyUI (execution.py) does.

    The editor writes 1 for the FLOAT 1.0.
    """
    try:
        return _CASTS[kind](value) if kind in _CASTS and value is not None else value
    except (TypeError, ValueError):  # the node will say so
        return value


def _value_problem(
    entry: Entry, spec: LoaderSpec, wanted: NodeInput, value: Any, host: Loaders
) -> Problem | None:
    if wanted.options is None or value in wanted.options:
        return None
    options = [str(option) for option in wanted.options]
    shown = without_paths(entry.written.get(str(value), str(value)))
    if wanted.folders:
        near = _nearest_files(str(value), options)
        searched = [place for folder in wanted.folders for place in host.searched(folder)]
        return problem(
            "file_missing",
            line=entry.line,
            file=shown,
            where=f"in none of the {len(searched)} folders" if len(searched) != 1 else "not in the folder",
            folder=" and ".join(wanted.folders),
            suggestion=_file_hint(str(value), near, searched, wanted.folders),
        )
    return problem(
        "value_not_allowed",
        line=entry.line,
        input=wanted.name,
        loader=spec.name,
        found=repr(shown) if isinstance(value, str) else shown,
        expected=", ".join(options[:20]) + (", …" if len(options) > 20 else ""),
        suggestion=did_you_mean(value, options, "Choose one of those."),
    )


def _file_hint(value: str, near: Sequence[str], searched: Sequence[str], kinds: Sequence[str]) -> str:
    if not value.isprintable():  # "SDXL\\new.safetensors" in double quotes holds a line break
        return BACKSLASHES
    return f"Nearest: {', '.join(near)}." if near else _where(searched, kinds)


def _where(searched: Sequence[str], kinds: Sequence[str]) -> str:
    """Return the hint where a missing file belongs.

    The folder named like its kind, or else each one that is searched.
    """
    own = [place for place in searched if place.startswith("models/")] or list(searched)
    named = [place for place in own if place.rpartition("/")[2] in kinds]
    return (
        f"Put it into {' or '.join(dict.fromkeys(named or own))}." if own else "No folder is searched for it."
    )


def _nearest_files(value: str, options: Iterable[str]) -> list[str]:
    """Files with a name like it; endings and folders, which all have in common, do not count."""
    by_stem: dict[str, str] = {}
    for option in options:
        by_stem.setdefault(stem(option), option)
    return [by_stem[name] for name in nearest(stem(value), by_stem)]
