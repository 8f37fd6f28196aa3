"""What is known of node classes: the inputs and outputs they declare.

Loader nodes are called by it, and a workflow file cannot be read without it. `host/` answers for a real
ComfyUI.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol

Value = str | int | float | bool | None
"""What a widget of a node can hold."""
NO_DEFAULT: Any = object()
"""The default of an input that has none: None is a default too."""
PLAIN_TYPES = frozenset({"COMBO", "STRING", "INT", "FLOAT", "BOOLEAN"})
"""Input types that a value can be written for.

The others come from another node, or are a plugin's own widgets.
"""


@dataclass(frozen=True)
class NodeInput:
    """One input of a node class, as its INPUT_TYPES() declares it."""

    name: str
    type: str
    """COMBO, STRING, INT, FLOAT, BOOLEAN, another type of widget, or the type of a link such as MODEL."""
    required: bool = True
    options: tuple[Any, ...] | None = None
    """The values of a COMBO; None where any value goes."""
    default: Any = NO_DEFAULT
    folders: tuple[str, ...] = ()
    """The model folders ("checkpoints", "vae") whose files the options list.

    Known for inputs of a `LoaderSpec` only.
    """
    extra: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """The rest of the declaration as it stands.

    `forceInput`, `control_after_generate`, `image_upload`, `template` …
    """

    def flag(self, name: str) -> bool:
        return bool(self.extra.get(name))


@dataclass(frozen=True)
class NodeSpec:
    """One node class: its inputs, required ones first, and the types of its outputs."""

    name: str
    inputs: tuple[NodeInput, ...] = ()
    outputs: tuple[str, ...] = ()
    output_node: bool = False
    api_node: bool = False
    """A partner node: it runs on somebody's server, for a user who is logged in."""


@dataclass(frozen=True)
class LoaderSpec:
    """A node class that can be called by itself: what it takes, with the folders of its files.

    A class may be registered under several names: these share `class_id`; two classes never do.
    """

    name: str
    class_id: str
    inputs: tuple[NodeInput, ...]
    sees_graph: bool = False
    """It is given its node's id and the graph, by which some packs keep models themselves."""


class NodeTypes(Protocol):
    """The node classes of this ComfyUI. Asked only once all custom nodes are registered."""

    def node(self, class_type: str) -> NodeSpec | None:
        """None for a class that is not installed. May raise what the class's INPUT_TYPES() raises."""
        ...

    def renewed(self, prompt: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the prompt with the classes replaced that this ComfyUI knows a successor of."""
        return prompt


def declared(
    name: str,
    input_types: Mapping[str, Any],
    outputs: Sequence[Any] = (),
    *,
    output_node: bool = False,
    api_node: bool = False,
) -> NodeSpec:
    """A class from what INPUT_TYPES() returned (V1, or V3 in that form) and its RETURN_TYPES."""
    return NodeSpec(name, inputs_of(input_types), tuple(_type(o) for o in outputs), output_node, api_node)


def inputs_of(input_types: Mapping[str, Any], prefix: str = "") -> tuple[NodeInput, ...]:
    """The inputs in the sections `required` and `optional`, in that order."""
    return tuple(
        declared_input(f"{prefix}{name}", declaration, required=section == "required")
        for section in ("required", "optional")
        for name, declaration in _mapping(input_types.get(section)).items()
    )


def declared_input(name: str, declaration: Any, *, required: bool = True) -> NodeInput:
    """One entry of INPUT_TYPES(): a type, or a tuple of a type and options."""
    kind, *rest = declaration if isinstance(declaration, tuple | list) and declaration else (declaration,)
    extra = _mapping(rest[0] if rest else None)
    options: tuple[Any, ...] | None = None
    if isinstance(kind, tuple | list):
        options = tuple(map(plain, kind))
    elif kind == "COMBO" and isinstance(extra.get("options"), tuple | list):
        options = tuple(map(plain, extra["options"]))
    default = plain(extra.get("default", NO_DEFAULT))
    return NodeInput(name, _type(kind), required=required, options=options, default=default, extra=extra)


def plain(value: Any) -> Any:
    """Some classes declare members of an enum; JSON has their values."""
    return value.value if isinstance(value, Enum) else value


def accepts(wanted: str, offered: str) -> bool:
    """May an output of type `offered` be linked to an input of type `wanted`?

    Source: LiteGraph.isValidConnection.
    """
    if wanted in ("", "*") or offered in ("", "*"):
        return True
    return not _words(wanted).isdisjoint(_words(offered))


def _words(types: str) -> set[str]:
    return {word.strip().lower() for word in types.split(",")}


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _type(kind: Any) -> str:
    return "COMBO" if isinstance(kind, tuple | list) else str(plain(kind))
