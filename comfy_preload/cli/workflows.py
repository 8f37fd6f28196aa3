"""The workflows of the settings, as far as they can be looked at without node classes.

Which model files they name.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from comfy_preload.cli.guessed_types import GuessedTypes
from comfy_preload.cli.loaders import CoreLoaders
from comfy_preload.core.errors import PreloadError, Problem, problem
from comfy_preload.core.host import ModelFile
from comfy_preload.core.settings.validation import Settings, WorkflowSource
from comfy_preload.core.text import nearest, stem
from comfy_preload.core.workflow.files import files_of
from comfy_preload.core.workflow.loaders import Loaders, loader_calls
from comfy_preload.core.workflow.locate import locate
from comfy_preload.core.workflow.reader import parse, read_file

NOTHING = Loaders()


@dataclass(frozen=True)
class WorkflowFile:
    """One workflow, or an entry that none was found for."""

    name: str
    required: bool = True
    files: tuple[ModelFile, ...] = ()
    found: Loaders = NOTHING
    """Its loaders and what cannot be preloaded, as far as the file alone says."""
    problems: tuple[Problem, ...] = ()


def look(
    sources: Iterable[WorkflowSource], folders: Sequence[Path], loaders: CoreLoaders
) -> Iterator[WorkflowFile]:
    """Read every workflow file, and search for every model file that it names."""
    for source in sources:
        given = source.given
        found = () if source.problems else locate(given.path, folders)
        if not found:
            missing = (problem("workflow_missing", line=source.line, path=Path(given.path).name),)
            yield WorkflowFile(given.path, given.required, problems=source.problems or missing)
        for name, path in found:
            one = _read(path, name, loaders)
            problems = tuple(replace(p, line=source.line) for p in one.problems)
            yield replace(one, required=given.required, problems=problems)


def _read(path: Path, name: str, loaders: CoreLoaders) -> WorkflowFile:
    try:
        text = read_file(path, name)
        names = files_of(text)
        types = GuessedTypes(text)
        found = loader_calls(parse(text, types), types)
    except PreloadError as error:
        wrong = error.problem
        named = wrong if name in wrong.message else replace(wrong, message=f"{name}: {wrong.message}")
        return WorkflowFile(name, problems=(named,))
    places = {wanted: loaders.anywhere(wanted) for wanted in names}
    missing = tuple(_missing(wanted, loaders) for wanted, file in places.items() if not file)
    return WorkflowFile(
        name, files=tuple(file for file in places.values() if file), found=found, problems=missing
    )


def _missing(name: str, loaders: CoreLoaders) -> Problem:
    by_stem = {stem(file): file for file in loaders.model_files()}
    near = [by_stem[found] for found in nearest(stem(name), by_stem)]
    suggestion = f"Nearest: {', '.join(near)}." if near else "Is it mounted?"
    return problem(
        "file_missing",
        file=name,
        where=f"in none of the {loaders.folder_count()} folders",
        folder="models of any kind",
        suggestion=suggestion,
    )


def classes_in(settings: Settings) -> set[str]:
    """Return the node classes that the listed workflows name, those of subgraphs included."""
    found: set[str] = set()
    for source in settings.workflows:
        for _, path in () if source.problems else locate(source.given.path, (settings.folder,)):
            try:
                todo: list[Any] = [json.loads(path.read_bytes())]
            except (OSError, ValueError, RecursionError):
                continue  # `check` reports it
            while todo:
                value = todo.pop()
                if isinstance(value, dict):
                    found |= {v for k in ("class_type", "type") if isinstance(v := value.get(k), str)}
                    todo += value.values()
                elif isinstance(value, list):
                    todo += value
    return found
