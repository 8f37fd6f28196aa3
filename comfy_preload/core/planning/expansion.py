"""`workflows:` of the settings + their files -> models to preload, and prompts to warm up with."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from comfy_preload.core.errors import PreloadError, Problem, problem
from comfy_preload.core.host import GraphNode
from comfy_preload.core.loader_table import kind_of, named_files
from comfy_preload.core.log import log, log_each
from comfy_preload.core.node_types import NodeTypes
from comfy_preload.core.planning import warm_up as warmup
from comfy_preload.core.planning.rows import NotPreloaded, Profile, WarmUp, WarmUpState
from comfy_preload.core.settings.entry import Entry
from comfy_preload.core.settings.validation import WorkflowSource
from comfy_preload.core.text import stem
from comfy_preload.core.workflow.likeness import likeness
from comfy_preload.core.workflow.loaders import Call, loader_calls
from comfy_preload.core.workflow.locate import locate
from comfy_preload.core.workflow.reader import Workflow, parse, read_file


@dataclass(frozen=True)
class Runs:
    """One workflow: how its warm-up stands, and the prompts that it consists of."""

    row: WarmUp
    prompts: tuple[warmup.Prompt, ...] = ()
    limit: float = 300
    """Seconds that one of them may take."""
    budget: float = math.inf
    """Seconds that all of them may take."""
    verify: bool = False
    """Measure afterwards whether the first prompt is as fast as the later ones."""
    editor: Mapping[str, Any] | None = None
    """The workflow as the editor saved it, for nodes that look into it (`extra_pnginfo`)."""
    partner_nodes: tuple[str, ...] = ()
    """Classes in them that run for a user who is logged in."""


@dataclass(frozen=True)
class Expansion:
    """What the workflows of the settings come to."""

    entries: tuple[Entry, ...] = ()
    runs: tuple[Runs, ...] = ()
    """Of workflows that are to be warmed up, and of those that cannot be read."""
    left: tuple[NotPreloaded, ...] = ()
    """Nodes that read a model file and that no entry stands for."""
    likeness: tuple[tuple[str, str], ...] = ()
    """Name of each workflow, and what its prompts are recognized by; each once."""


def expand(
    sources: Sequence[WorkflowSource], folders: Sequence[Path], types: NodeTypes, taken: Sequence[str] = ()
) -> Expansion:
    """Read every workflow file.

    `taken`: names of models that there are already. Bad files become failed rows.
    """
    names = set(taken)
    entries: list[Entry] = []
    runs: list[Runs] = []
    left: list[NotPreloaded] = []
    faults: list[str] = []
    known: dict[str, str] = {}
    for source in sources:
        files = () if source.problems else locate(source.given.path, folders)
        if not files:
            name = Path(source.given.path).name
            wrong = source.problems or (problem("workflow_missing", line=source.line, path=name),)
            runs.append(_failed(name, source, wrong))
        for name, file in files:
            try:
                workflow = parse(read_file(file, name), types)
            except PreloadError as error:
                runs.append(_failed(name, source, (error.problem,)))
                continue
            faults += [f"{name}: {fault}" for fault in workflow.problems]
            known.setdefault(name, likeness(workflow.prompt))
            found = loader_calls(workflow, types)
            entries += [_entry(call, name, workflow, source, names) for call in found.calls]
            left += [NotPreloaded(name, one.node_id, one.class_type, one.problem) for one in found.left]
            runs += [_runs(name, workflow, source, types)] if source.given.warmup else []
    log_each(logging.WARNING, faults, "more nodes of the workflows were left out")
    return Expansion(tuple(entries), tuple(_distinct(runs)), tuple(left), tuple(known.items()))


def _distinct(runs: Sequence[Runs]) -> Iterator[Runs]:
    """The same workflow may be listed twice, with other overrides: good.json, good.json#2."""
    count: Counter[str] = Counter()
    for one in runs:
        count[one.row.name] += 1
        nth = count[one.row.name]
        yield one if nth == 1 else replace(one, row=replace(one.row, name=f"{one.row.name}#{nth}"))


def _runs(name: str, workflow: Workflow, source: WorkflowSource, types: NodeTypes) -> Runs:
    made = warmup.prepare(workflow, source.given, types, name)
    if made.problems:
        return _failed(name, source, made.problems)
    for note in made.notes:
        log.warning("%s", note)
    profiles = tuple(Profile(run.shape) for run in made.runs)
    given = source.given
    row = WarmUp(name, given.required, profiles=profiles, notes=made.notes)
    prompts = tuple(run.prompt for run in made.runs)
    partners = warmup.partner_nodes(prompts[0], types)
    budget = math.inf if given.budget is None else given.budget
    return Runs(row, prompts, given.limit, budget, given.verify, workflow.editor, partners)


def _failed(name: str, source: WorkflowSource, problems: tuple[Problem, ...]) -> Runs:
    """A row for what cannot be read or run; its file is named in every message."""
    named = (p if name in p.message else replace(p, message=f"{name}: {p.message}") for p in problems)
    found = tuple(replace(p, line=source.line) for p in named)
    given = source.given
    return Runs(WarmUp(name, given.required, WarmUpState.FAILED, problems=found, requested=given.warmup))


def _entry(call: Call, workflow: str, graph: Workflow, source: WorkflowSource, names: set[str]) -> Entry:
    """A loader of a workflow as an entry."""
    files = named_files(call.class_type, call.inputs)
    base = "+".join(map(stem, files)).replace("/", "_")[:180] or call.class_type
    name, count = base, 1
    while name in names:
        count += 1
        name = f"{base}-{count}"
    names.add(name)
    kind = kind_of(call.class_type)
    given = source.given
    return Entry(
        name,
        kind,
        call.class_type,
        dict(call.inputs),
        given.required,
        given.device,
        source.line,
        node=GraphNode(call.node_id, graph.prompt, graph.editor),
        links=call.links,
        workflow=workflow,
    )
