"""One entry of the plan, as the settings file or a workflow gives it.

Imports no pydantic: readers of the state need it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from comfy_preload.core.errors import Problem
from comfy_preload.core.host import GraphNode
from comfy_preload.core.node_types import Value


@dataclass(frozen=True)
class Entry:
    """One model to preload. With `problems` it cannot be loaded, and the other fields may be guesses."""

    name: str
    kind: str
    loader: str
    inputs: Mapping[str, Value]
    required: bool = True
    device: Literal["gpu", "ram"] = "gpu"
    line: int | None = None
    problems: tuple[Problem, ...] = ()
    written: Mapping[str, str] = field(default_factory=dict[str, str])
    """Values in which a ${NAME} was filled in -> the text in the file: that is what may be shown."""
    node: GraphNode | None = None
    """The node of the workflow that the entry was read from; None for an entry of `models:`."""
    links: Mapping[str, tuple[str, int]] = field(default_factory=dict[str, tuple[str, int]])
    """Inputs that other nodes of the same graph give: (node, output). Those nodes run before the loader."""
    workflow: str = ""
    """The name of that workflow."""
