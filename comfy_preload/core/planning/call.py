"""The call of a loader node, and what makes two calls the same."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from pathlib import Path, PurePath
from types import SimpleNamespace
from typing import Any

from comfy_preload.core.errors import Problem
from comfy_preload.core.host import GraphNode, ModelFile
from comfy_preload.core.node_types import LoaderSpec
from comfy_preload.core.settings.entry import Entry


@dataclass(frozen=True)
class Target:
    """What exactly is called: a node class of this ComfyUI with complete inputs."""

    spec: LoaderSpec
    inputs: Mapping[str, Any]
    files: tuple[ModelFile, ...]
    key: str
    """Same key, same result: the class and its arguments, defaults applied.

    With links: and the nodes they come from.
    """
    node: GraphNode
    """Where in a graph the call is made."""
    changes: str = ""
    """What the class answers when ComfyUI asks whether the node must run again with the same inputs."""


@dataclass(frozen=True)
class LoaderCall:
    """The call of a loader node that an entry stands for.

    With `problems` it is not made; without a target it cannot be made.
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

    @property
    def paths(self) -> tuple[Path, ...]:
        return tuple(file.path for file in self.files)


def call_key(
    class_id: str, arguments: Mapping[str, Any], known: Callable[[Any], Any] = lambda _: None
) -> str:
    """Return a canonical text for a call, or '' if an argument has none: a model, a tensor.

    Args:
        class_id: Of the node class.
        arguments: Lists and mappings of values, settings objects included, are compared by what they hold.
        known: Returns a text for an object that is known otherwise, such as a preloaded model; else None.
    """

    def written(value: Any) -> Any:
        text = known(value)
        return plain_form(value) if text is None else text

    try:
        return f"{class_id} {json.dumps(dict(arguments), sort_keys=True, allow_nan=False, default=written)}"
    except (TypeError, ValueError, RecursionError):
        return ""


def plain_form(value: Any) -> Any:
    """Return what a settings object holds, for comparison.

    Raises TypeError for objects that hold more than settings.
    """
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    if isinstance(value, Enum):
        return [kind, value.value]
    if is_dataclass(value) and not isinstance(value, type):
        return [kind, {one.name: getattr(value, one.name) for one in fields(value)}]
    if isinstance(value, SimpleNamespace):
        return [kind, vars(value)]
    if isinstance(value, set | frozenset):
        return [kind, sorted(value)]
    if isinstance(value, PurePath) or kind in ("torch.dtype", "torch.device"):
        return [kind, str(value)]
    raise TypeError(kind)
