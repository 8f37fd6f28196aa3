"""Owns the model sets: which models belong together, and which set a prompt is for.

Knows neither Ray nor ComfyUI.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from comfy_preload.core.errors import PreloadError
from comfy_preload.core.loader_table import MODEL_FILES
from comfy_preload.core.settings.document import Document, parse
from comfy_preload.core.settings.validation import validate

LOADED = frozenset({"staged", "resident", "warm", "evicted"})
"""States of a model in /preload in which it is loaded (docs/http.md)."""
KEYS = ("per_replica", "settings", "sets")


class SetsError(ValueError):
    """The file of the sets cannot be used; the sentence says why."""


@dataclass(frozen=True)
class Model:
    """One entry of preload.yaml. `name` is what /preload calls it, and unique among all sets."""

    name: str
    entry: Mapping[str, Any]
    files: frozenset[str]
    required: bool = True


@dataclass(frozen=True)
class Sets:
    """The whole file. `settings` are further keys of every replica's preload.yaml."""

    models: Mapping[str, tuple[Model, ...]]
    per_replica: int = 1
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @classmethod
    def read(cls, path: Path) -> Sets:
        """Read and check the file.

        Raises SetsError.
        """
        try:
            document = parse(path.read_bytes())
        except OSError as error:
            raise SetsError(f"{path.name}: {error.strerror}") from error
        except PreloadError as error:
            raise SetsError(f"{path.name}: {error}") from error
        if document.problems:
            raise SetsError(f"{path.name}: {document.problems[0][1]}")
        return cls.of(document.data, path.parent)

    @classmethod
    def of(cls, data: Any, folder: Path = Path()) -> Sets:
        """Check what the file holds. `folder` is where workflows are searched for.

        Raises SetsError.
        """
        data = _mapping(data, "the file")
        if unknown := [key for key in data if key not in KEYS]:
            raise SetsError(f"{unknown[0]} is not a key of the file; expected {', '.join(KEYS)}")
        per_replica = data.get("per_replica", 1)
        if type(per_replica) is not int or per_replica < 1:
            raise SetsError(f"per_replica is {per_replica!r}; expected a whole number of at least 1")
        settings = _mapping(data.get("settings") or {}, "settings")
        if taken := {"models", "workflows", "probe", "when"} & set(settings):
            raise SetsError(f"settings has {min(taken)}, which every replica sets itself")
        listed = {
            str(name): _entries(str(name), given, folder)
            for name, given in _mapping(data.get("sets"), "sets").items()
        }
        if not listed:
            raise SetsError("sets is empty; expected at least one set")
        if wrong := validate(Document(settings)).problems:
            raise SetsError(f"settings: {wrong[0]}")
        return cls(_named(listed), per_replica, settings)

    def for_prompt(self, prompt: Any) -> str | None:
        """Return the set that holds most of the prompt's models, the smallest of several.

        None if no set has any.
        """
        wanted = {file for node in _loaders(prompt) for file in _files(node["inputs"])}
        found: list[tuple[int, int, str]] = []
        for name, models in self.models.items():
            files = frozenset[str]().union(*(model.files for model in models))
            if common := wanted & files:
                found.append((-len(common), len(files), name))
        return min(found)[2] if found else None

    def held(self, rows: Iterable[Mapping[str, Any]]) -> set[str]:
        """Return the sets that are loaded, by the rows of `models.items` in /preload."""
        loaded = {row["name"] for row in rows if row["state"] in LOADED}
        return {
            name
            for name, models in self.models.items()
            if all(model.name in loaded for model in models if model.required)
        }

    def preload_yaml(self, names: Sequence[str], probe: int) -> str:
        """Return the preload.yaml of a replica that is to hold the sets `names`."""
        models = {model.name: model.entry for name in names for model in self.models[name]}
        text: str = yaml.safe_dump(
            {**self.settings, "probe": {"port": probe}, "models": list(models.values())},
            sort_keys=False,
            allow_unicode=True,
        )
        return text


def _loaders(prompt: Any) -> Iterable[Mapping[str, Any]]:
    """The nodes of a prompt that name a model file and take no other node's output."""
    for node in prompt.values() if isinstance(prompt, dict) else ():
        inputs = node.get("inputs") if isinstance(node, dict) else None
        if (
            isinstance(inputs, dict)
            and _files(inputs)
            and not any(isinstance(v, list) for v in inputs.values())
        ):
            yield node


def _files(inputs: Mapping[str, Any]) -> frozenset[str]:
    return frozenset(
        value.replace("\\", "/")
        for value in inputs.values()
        if isinstance(value, str) and value.lower().endswith(MODEL_FILES)
    )


def _entries(name: str, given: Any, folder: Path) -> list[Any]:
    """The entries of one set, those of its workflow included."""
    given = _mapping(given, f"set {name}")
    if not given or set(given) - {"models", "workflow"}:
        raise SetsError(
            f"set {name} has {', '.join(map(str, given)) or 'nothing'}; expected models or workflow"
        )
    entries = given.get("models") or []
    if not isinstance(entries, list):
        raise SetsError(f"set {name}: models is not a list")
    if "workflow" in given:
        file = folder / str(given["workflow"])
        try:
            prompt = json.loads(file.read_bytes())
        except (OSError, ValueError) as error:
            raise SetsError(f"set {name}: {file.name} is not a workflow that can be read") from error
        entries = [
            *entries,
            *({"loader": n.get("class_type"), "inputs": n["inputs"]} for n in _loaders(prompt)),
        ]
    if not entries:
        raise SetsError(f"set {name} has no models; a workflow must be in API format")
    return entries


def _named(listed: Mapping[str, list[Any]]) -> dict[str, tuple[Model, ...]]:
    """One name for each entry that differs from the others, as preload.yaml would give it."""
    distinct = {json.dumps(e, sort_keys=True, default=str): (s, e) for s, es in listed.items() for e in es}
    settled = validate(Document({"models": [entry for _, entry in distinct.values()]}))
    models: dict[str, Model] = {}
    for (key, (name, entry)), known in zip(distinct.items(), settled.entries, strict=True):
        if known.problems:
            raise SetsError(f"set {name}: {known.name}: {known.problems[0]}")
        models[key] = Model(known.name, {**entry, "name": known.name}, _files(known.inputs), known.required)
    return {
        s: tuple(models[json.dumps(e, sort_keys=True, default=str)] for e in es) for s, es in listed.items()
    }


def _mapping(value: Any, what: str) -> dict[Any, Any]:
    if not isinstance(value, dict):
        raise SetsError(f"{what} is a {type(value).__name__}; expected keys and values")
    return value
