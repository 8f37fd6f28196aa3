"""Settings + ComfyUI's folders + files -> what would be loaded and what is wrong with it.

`plan` and `check` show it.

The very stages that run at start-up, over a table of the core loaders in place of ComfyUI's node classes.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from comfy_preload.cli import comfyui
from comfy_preload.cli.loaders import CoreLoaders
from comfy_preload.cli.machine import free_vram
from comfy_preload.cli.output import Row, problem_json, say, table
from comfy_preload.cli.workflows import WorkflowFile, look
from comfy_preload.core.errors import PreloadError, Problem
from comfy_preload.core.machine import memory
from comfy_preload.core.planning.call import LoaderCall
from comfy_preload.core.planning.plan import Plan, build
from comfy_preload.core.planning.preflight import check
from comfy_preload.core.planning.safetensors import inspect
from comfy_preload.core.settings.document import read, settings_path
from comfy_preload.core.settings.schema import Options, WorkflowEntry
from comfy_preload.core.settings.validation import Settings, WorkflowSource, validate
from comfy_preload.core.text import listed, nearest
from comfy_preload.core.workflow.locate import locate
from comfy_preload.core.workflow.model_names import model_names

MOST_WORKFLOWS = 10_000
"""Files that `--workflows` looks at, at most."""
FULLY, FILES, AT_START = "fully", "its files", "at start-up only"


@dataclass(frozen=True)
class Survey:
    """What was found, before anything is shown."""

    comfyui: str | None
    problems: tuple[Problem, ...]
    """Of the whole file."""
    plan: Plan
    bytes: dict[str, int]
    loaders: CoreLoaders
    workflows: tuple[WorkflowFile, ...]

    @property
    def good(self) -> bool:
        return not self.problems and not any(one.problems for one in (*self.plan.calls, *self.workflows))

    @property
    def total(self) -> int:
        """Bytes of all files, each once."""
        return sum(size(path) for path in self.paths)

    @property
    def paths(self) -> list[Path]:
        """All files, in the plan's order, each once."""
        every = (file.path for one in (*self.plan.calls, *self.workflows) for file in one.files)
        return list(dict.fromkeys(every))

    def checked(self, call: LoaderCall) -> str:
        """How far its inputs could be looked at."""
        if not call.entry.loader or self.loaders.knows(call.entry.loader):
            return FULLY
        return FILES if call.files else AT_START


def survey(options: argparse.Namespace) -> Survey:
    """Read the settings, find the files, look into them. Raises PreloadError if there is no ComfyUI."""
    if options.config:
        os.environ["PRELOAD_CONFIG"] = str(options.config)
    place = comfyui.find(options.comfyui)
    comfyui.enter(place, options.base_directory, options.extra_model_paths_config, options.user_directory)
    settings = _of_workflows(options.workflows) if options.workflows else _settings()
    loaders = CoreLoaders(settings.entries)
    checked = check(build(settings.entries, loaders), inspect, memory.available() + free_vram())
    workflows = tuple(look(settings.workflows, (settings.folder, comfyui.user_folder()), loaders))
    return Survey(comfyui.version(place), settings.problems, checked.plan, checked.bytes, loaders, workflows)


def _of_workflows(path: Path) -> Settings:
    """Return settings that list a workflow file, or every one in a folder and the folders in it."""
    found = (
        [path] if path.is_file() else [file for _, file in locate("**/*.json", [path], most=MOST_WORKFLOWS)]
    )
    entries = [WorkflowEntry(path=str(file)) for file in found or [path]]
    return Settings(Options(), (), workflows=tuple(map(WorkflowSource, entries)), folder=path.parent)


def _settings() -> Settings:
    try:
        file = settings_path()
        return replace(validate(read(file)), folder=file.parent)
    except PreloadError as error:  # a finding like any other
        return Settings(Options(), (), (error.problem,))


def model_json(found: Survey, call: LoaderCall) -> dict[str, Any]:
    """One row of `models` in the JSON of both commands."""
    return {
        "name": call.name,
        "kind": call.entry.kind,
        "loader": call.entry.loader,
        "inputs": dict(call.target.inputs) if call.target else {},
        "files": [{"name": f.name, "folder": f.folder, "bytes": size(f.path)} for f in call.files],
        "bytes": found.bytes[call.name],
        "device": call.entry.device,
        "required": call.entry.required,
        "checked": found.checked(call),
        "problems": [problem_json(p) for p in call.problems],
    }


def survey_json(found: Survey) -> dict[str, Any]:
    """What the JSON of both commands begins with."""
    return {
        "ok": found.good,
        "comfyui": found.comfyui,
        "bytes": found.total,
        "models": [model_json(found, call) for call in found.plan.calls],
        "duplicates": [{"name": name, "same_as": same} for name, same in found.plan.duplicates],
        "workflows": [_workflow_json(source) for source in found.workflows],
        "problems": [problem_json(p) for p in found.problems],
    }


def _workflow_json(found: WorkflowFile) -> dict[str, Any]:
    return {
        "path": found.name,
        "required": found.required,
        "files": [{"name": f.name, "folder": f.folder, "bytes": size(f.path)} for f in found.files],
        "loaders": [{"node": one.node_id, "loader": one.class_type} for one in found.found.calls],
        "not_preloaded": [
            {
                "node": one.node_id,
                "loader": one.class_type,
                "files": list(one.files),
                **problem_json(one.problem),
            }
            for one in found.found.left
        ],
        "checked": FILES,
        "problems": [problem_json(p) for p in found.problems],
    }


def say_findings(found: Survey) -> None:
    """Every problem with its line and hint, then what could not be looked at."""
    for name, same in found.plan.duplicates:
        say(f"{name} is the same call as {same} and is left out")
    for call in found.plan.calls:
        if found.checked(call) != FULLY:
            near = nearest(
                call.entry.loader, [n for n in found.loaders.loader_names() if found.loaders.knows(n)], 1
            )
            close = near and abs(len(near[0]) - len(call.entry.loader)) < 2
            which = (
                f"the other inputs of {call.entry.loader} are" if call.files else f"{call.entry.loader} is"
            )
            asked = f"; or is it '{near[0]}'?" if close else ""
            say(f"{call.name}: {which} checked at start-up only{asked}")
    for one in found.workflows:
        if not one.problems:
            say(
                f"{one.name}: {len(one.files)} model files, all there; its nodes are looked up at start-up "
                "only"
            )
    loaders = [
        (one.name, call.node_id, call.class_type, ", ".join(model_names({**call.inputs})) or "-")
        for one in found.workflows
        for call in one.found.calls
    ]
    if loaders:
        table("Loaders in workflows", ("workflow", "node", "loader", "files"), loaders)
    left = [
        (one.name, node.node_id, node.class_type, ", ".join(node.files) or "-", node.problem.message)
        for one in found.workflows
        for node in one.found.left
    ]
    if left:
        table("Left to the first prompt, or a warm-up", ("workflow", "node", "loader", "files", ""), left)
    if findings := _findings(found):
        table("Findings", ("model", "problem"), findings)


def _findings(found: Survey) -> list[Row]:
    findings: list[Row] = [("preload.yaml", str(p)) for p in found.problems]
    where: dict[str, list[str]] = {}  # a file that many workflows name is missing once
    for one in found.workflows:
        for wrong in one.problems:
            where.setdefault(str(wrong), []).append(one.name)
    findings += [(listed(names, 1), wrong) for wrong, names in where.items()]
    findings += [(call.name, str(p)) for call in found.plan.calls for p in call.problems]
    return findings


def size(path: Path) -> int:
    """Bytes of a file, 0 if there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return 0
