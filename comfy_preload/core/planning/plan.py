"""Settings + what this ComfyUI has -> Plan: loader calls, complete, deduplicated, in order.

Looks names up, opens no file. A call with problems stays in the plan, to be reported as failed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from comfy_preload.core.errors import Problem, did_you_mean, failure, nearest, problem, without_paths
from comfy_preload.core.host import NO_DEFAULT, InputSpec, Loaders, LoaderSpec, ModelFile, stem
from comfy_preload.core.settings.entry import Entry

WIDGETS = frozenset({"COMBO", "STRING", "INT", "FLOAT", "BOOLEAN"})
"""Input types that a value can be written for; any other comes from another node."""


@dataclass(frozen=True)
class Target:
    """What exactly is called: a node class of this ComfyUI with complete inputs."""

    spec: LoaderSpec
    inputs: Mapping[str, Any]
    files: tuple[ModelFile, ...]
    key: str
    """Same key, same result: the class and its arguments, defaults applied."""


@dataclass(frozen=True)
class LoaderCall:
    """The call of a loader node that an entry stands for.

    With `problems` it is never made; without a target it cannot be made.
    """

    entry: Entry
    target: Target | None = None
    problems: tuple[Problem, ...] = ()

    @property
    def name(self) -> str:
        return self.entry.name

    @property
    def files(self) -> tuple[ModelFile, ...]:
        return self.target.files if self.target else ()


@dataclass(frozen=True)
class Plan:
    calls: tuple[LoaderCall, ...]
    duplicates: tuple[tuple[str, str], ...] = ()
    """(entry left out, entry that already makes this call)"""

    def runnable(self) -> tuple[LoaderCall, ...]:
        return tuple(call for call in self.calls if not call.problems)


def call_key(identity: str, arguments: Mapping[str, Any]) -> str:
    """A canonical text for a call, or '' if an argument is no plain value (a model, a tensor)."""
    try:
        return f"{identity} {json.dumps(dict(arguments), sort_keys=True, allow_nan=False)}"
    except (TypeError, ValueError):
        return ""


def build(entries: Iterable[Entry], host: Loaders) -> Plan:
    """Turn entries into calls. Only once all custom nodes are registered."""
    calls: list[LoaderCall] = []
    duplicates: list[tuple[str, str]] = []
    names: dict[str, str] = {}
    specs: dict[str, LoaderSpec | None] = {}
    for entry in entries:
        try:
            call = _call(entry, host, specs)
        except Exception as error:  # noqa: BLE001 — a node's own INPUT_TYPES(): one bad class costs one entry
            wrong = failure(entry.loader, error)
            call = replace(uncalled(entry), problems=(replace(wrong, line=entry.line),))
        key = call.target.key if call.target else ""
        if key in names:
            duplicates.append((call.name, names[key]))
            continue
        if key:
            names[key] = call.name
        calls.append(call)
    return Plan(tuple(calls), tuple(duplicates))


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
        known = host.loader_names()
        suggestion = did_you_mean(entry.loader, known, "Is the plugin that brings it installed?")
        unknown = problem(
            "loader_unknown",
            line=entry.line,
            loader=entry.loader,
            count=len(known),
            suggestion=suggestion,
        )
        return replace(call, problems=(unknown,))
    inputs, problems = _inputs(entry, spec, host)
    if problems:
        return replace(call, problems=tuple(problems))
    key = call_key(spec.identity, host.arguments(spec, inputs))
    return replace(call, target=Target(spec, inputs, host.files(spec, inputs), key))


def _inputs(entry: Entry, spec: LoaderSpec, host: Loaders) -> tuple[dict[str, Any], list[Problem]]:
    """The entry's inputs checked, and required ones that it leaves out filled as the UI would."""
    known = [i.name for i in spec.inputs]
    problems = [
        problem(
            "input_unknown",
            line=entry.line,
            loader=spec.name,
            input=name,
            wanted=", ".join(known) or "none",
            suggestion=did_you_mean(name, [*known, "name", "required", "device"], "Remove it."),
        )
        for name in entry.inputs
        if name not in known
    ]
    inputs: dict[str, Any] = {}
    for wanted in spec.inputs:
        if wanted.name in entry.inputs:
            value = entry.inputs[wanted.name]
            if wrong := _value_problem(entry, spec, wanted, value, host):
                problems.append(wrong)
            inputs[wanted.name] = value
        elif not wanted.required:
            continue
        elif wanted.type not in WIDGETS:
            values = {"loader": spec.name, "type": wanted.type, "input": wanted.name}
            problems.append(problem("loader_takes_model", line=entry.line, **values))
        elif wanted.default is not NO_DEFAULT and not wanted.folders:
            inputs[wanted.name] = wanted.default
        else:
            values = {"loader": spec.name, "input": wanted.name}
            problems.append(problem("input_missing", line=entry.line, **values))
    return inputs, problems


def _value_problem(
    entry: Entry, spec: LoaderSpec, wanted: InputSpec, value: Any, host: Loaders
) -> Problem | None:
    if wanted.options is None or value in wanted.options:
        return None
    options = [str(option) for option in wanted.options]
    shown = without_paths(entry.written.get(str(value), str(value)))
    if wanted.folders:
        near = _nearest_files(str(value), options)
        folders = " and ".join(wanted.folders)
        return problem(
            "file_missing",
            line=entry.line,
            file=shown,
            count=sum(host.searched(folder) for folder in wanted.folders),
            folder=folders,
            suggestion=f"nearest: {', '.join(near)}" if near else f"Is it mounted as {folders}?",
        )
    return problem(
        "value_not_allowed",
        line=entry.line,
        input=wanted.name,
        loader=spec.name,
        found=repr(shown) if isinstance(value, str) else shown,
        wanted=", ".join(options[:20]) + (", …" if len(options) > 20 else ""),
        suggestion=did_you_mean(value, options, "Choose one of those."),
    )


def _nearest_files(value: str, options: Iterable[str]) -> list[str]:
    """Files with a name like it; endings and folders, which all have in common, do not count."""
    by_stem: dict[str, str] = {}
    for option in options:
        by_stem.setdefault(stem(option), option)
    return [by_stem[name] for name in nearest(stem(value), by_stem)]
