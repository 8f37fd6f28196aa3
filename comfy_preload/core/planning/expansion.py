"""`workflows:` of the settings + their files -> models to preload, and prompts to warm up with."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from comfy_preload.core.errors import PreloadError, Problem, problem
from comfy_preload.core.loader_table import kind_of, named_files
from comfy_preload.core.log import log
from comfy_preload.core.node_types import NodeTypes
from comfy_preload.core.planning import warm_up as warmup
from comfy_preload.core.settings.entry import Entry
from comfy_preload.core.settings.validation import WorkflowSource
from comfy_preload.core.state.snapshot import WarmUp, WarmUpState
from comfy_preload.core.text import stem
from comfy_preload.core.workflow.loaders import Call, loader_calls
from comfy_preload.core.workflow.locate import locate
from comfy_preload.core.workflow.reader import Workflow, parse, read_file

_HARMLESS = frozenset({"workflow_version"})
"""Worth a line in the log, but the workflow was read all the same."""


@dataclass(frozen=True)
class Runs:
    """One workflow: how its warm-up stands, and the prompts that it consists of."""

    row: WarmUp
    prompts: tuple[warmup.Prompt, ...] = ()
    editor: Mapping[str, Any] | None = None
    """The workflow as the editor saved it, for nodes that look into it (`extra_pnginfo`)."""


@dataclass(frozen=True)
class Expansion:
    """What the workflows of the settings come to."""

    entries: tuple[Entry, ...] = ()
    runs: tuple[Runs, ...] = ()
    """Of workflows that are to be warmed up, and of those that cannot be read."""


def expand(
    sources: Sequence[WorkflowSource], folders: Sequence[Path], types: NodeTypes, taken: Sequence[str] = ()
) -> Expansion:
    """Read every workflow file. `taken`: names of models that there are already. Bad files become failed rows."""
    names = set(taken)
    entries: list[Entry] = []
    runs: list[Runs] = []
    for source in sources:
        files = () if source.problems else locate(source.given.path, folders)
        if not files:
            name = Path(source.given.path).name
            wrong = source.problems or (problem("workflow_missing", line=source.line, path=name),)
            runs.append(_failed(name, source, wrong))
        for name, file in files:
            calls, run = _one(name, file, source, types)
            entries += [_entry(call, source, names) for call in calls]
            runs += [run] if run else []
    return Expansion(tuple(entries), tuple(_distinct(runs)))


def _distinct(runs: Sequence[Runs]) -> Iterator[Runs]:
    """The same workflow may be listed twice, with other overrides: good.json, good.json#2."""
    count: Counter[str] = Counter()
    for one in runs:
        count[one.row.name] += 1
        nth = count[one.row.name]
        yield one if nth == 1 else replace(one, row=replace(one.row, name=f"{one.row.name}#{nth}"))


def _one(
    name: str, file: Path, source: WorkflowSource, types: NodeTypes
) -> tuple[tuple[Call, ...], Runs | None]:
    try:
        workflow = parse(read_file(file, name), types)
    except PreloadError as error:
        return (), _failed(name, source, (error.problem,))
    wrong = tuple(p for p in workflow.problems if p.code not in _HARMLESS)
    for fault in workflow.problems:
        log.warning("%s: %s", name, fault)
    calls = loader_calls(workflow, types)
    if wrong:
        return calls, _failed(name, source, wrong)
    return calls, _runs(name, workflow, source, types) if source.given.warmup else None


def _runs(name: str, workflow: Workflow, source: WorkflowSource, types: NodeTypes) -> Runs:
    given = source.given
    prompt: warmup.Prompt = {
        i: {**node, "inputs": copy.deepcopy(dict(node["inputs"]))} for i, node in workflow.prompt.items()
    }
    if wrong := warmup.override(prompt, given.overrides, name):
        return _failed(name, source, wrong)
    sizes = [warmup.sized(prompt, shape) for shape in given.shapes] or [prompt]
    shapes = tuple(map(warmup.shape_of, sizes))
    return Runs(
        WarmUp(name, given.required, shapes=shapes),
        tuple(warmup.unsaved(one, types) for one in sizes),
        workflow.editor,
    )


def _failed(name: str, source: WorkflowSource, problems: tuple[Problem, ...]) -> Runs:
    told = tuple(replace(p, line=source.line) for p in problems)
    return Runs(WarmUp(name, source.given.required, WarmUpState.FAILED, problems=told))


def _entry(call: Call, source: WorkflowSource, names: set[str]) -> Entry:
    """A loader of a workflow as an entry. One whose values only a run can tell is never required: a run will load it."""
    files = named_files(call.class_type, call.inputs)
    base = "+".join(map(stem, files)).replace("/", "_")[:180] or call.class_type
    name, count = base, 1
    while name in names:
        count += 1
        name = f"{base}-{count}"
    names.add(name)
    kind = kind_of(call.class_type)
    problems = tuple(replace(p, line=source.line) for p in call.problems)
    required = source.given.required and not problems
    return Entry(
        name, kind, call.class_type, dict(call.inputs), required, source.given.device, source.line, problems
    )
