"""A workflow as ComfyUI's editor saves it, as typed nodes and links. Reads shapes; knows no node class.

Tolerant: what is not a node or not a link is left out with a problem, and links may be arrays (schema 0.4) or
objects (schema 1) anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from comfy_preload.core.errors import Problem, problem
from comfy_preload.core.text import without_paths

INPUT_NODE = "-10"
"""The origin of links that come into a subgraph from outside."""
OUTPUT_NODE = "-20"
MUTED, BYPASSED = 2, 4
MAX_INPUTS = 1000
"""Inputs of one node that are looked at; a node has a dozen."""
OLD_NAMES = {
    "T2IAdapterLoader": "ControlNetLoader",
    "ConditioningAverage ": "ConditioningAverage",
    "SDV_img2vid_Conditioning": "SVD_img2vid_Conditioning",
    "Load3DAnimation": "Load3D",
    "Preview3DAnimation": "Preview3D",
}
"""Classes that the editor renames as it opens a file (loadGraphData, src/scripts/app.ts)."""


@dataclass(frozen=True)
class Link:
    """From an output of one node to an input of another."""

    id: str
    origin: str
    slot: int
    target: str
    target_slot: int


@dataclass(frozen=True)
class Port:
    """An input of a node: linked if `link` names a link."""

    name: str
    type: str = "*"
    link: str | None = None
    widget: bool = False
    """The file says that a widget stands behind it."""


@dataclass(frozen=True)
class Node:
    """One node of a graph, as it was saved."""

    id: str
    type: str
    mode: int = 0
    inputs: tuple[Port, ...] = ()
    outputs: tuple[str, ...] = ()
    values: Any = None
    """`widgets_values`: a list by position, or a dict by name."""
    properties: Mapping[str, Any] = field(default_factory=dict)
    title: str = ""

    @property
    def active(self) -> bool:
        return self.mode not in (MUTED, BYPASSED)

    @property
    def plugin(self) -> str:
        """Where the class comes from, as the editor noted it: a registry id or a repository."""
        named = self.properties.get("cnr_id") or self.properties.get("aux_id")
        return shown(named) if isinstance(named, str) else ""


@dataclass(frozen=True)
class Place:
    """A widget of a node inside a group."""

    node: str
    widget: str


@dataclass(frozen=True)
class Graph:
    """The nodes of a file, or of one of its subgraph definitions."""

    nodes: Mapping[str, Node]
    links: Mapping[str, Link]
    inputs: tuple[Port, ...] = ()
    """A subgraph's inputs."""
    input_links: tuple[tuple[Link, ...], ...] = ()
    """For each of them, the links that lead from it to nodes inside."""
    output_links: tuple[Link | None, ...] = ()
    """For each output of a subgraph, the link inside that leads to it."""
    places: tuple[Place | None, ...] | None = None
    """Of a group node: which widget inside each of its values is for; None for one that is not sent."""


def shown(text: object, limit: int = 80) -> str:
    """A text out of the file, fit for a message: short, without paths, with characters only."""
    return without_paths(str(text), limit).encode(errors="replace").decode() or "(empty)"


def identifier(value: Any) -> str:
    """An id as text: 5, 5.0 and "5" name the same node."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def read(data: Mapping[str, Any]) -> tuple[Graph, dict[str, Graph], list[Problem]]:
    """The graph of a file, its subgraphs by id, and what could not be read."""
    problems: list[Problem] = []
    subgraphs = {identifier(d.get("id")): _graph(d, problems) for d in definitions(data)}
    return _graph(data, problems), subgraphs, problems


def definitions(data: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Every subgraph definition, also those inside others."""
    todo = [data]
    while todo:
        held = todo.pop().get("definitions")
        inside = dicts(held.get("subgraphs")) if isinstance(held, dict) else []
        yield from inside
        todo += inside


def _graph(data: Mapping[str, Any], problems: list[Problem]) -> Graph:
    nodes: dict[str, Node] = {}
    for order, written in enumerate(items(data.get("nodes"))):
        node = node_of(written)
        if node is None:
            problems.append(problem("workflow_node_invalid", node=order, reason="it has no id or no type"))
        else:
            nodes[node.id] = node
    links = {link.id: link for link in map(_link, items(data.get("links"))) if link is not None}
    coming: dict[int, list[Link]] = {}
    leaving: dict[int, Link] = {}
    for link in links.values():
        if link.origin == INPUT_NODE:
            coming.setdefault(link.slot, []).append(link)
        if link.target == OUTPUT_NODE:
            leaving.setdefault(link.target_slot, link)
    inputs, outputs = dicts(data.get("inputs")), dicts(data.get("outputs"))
    led_in = tuple(_in_order(slot, links, coming.get(i, [])) for i, slot in enumerate(inputs))
    led_out = tuple(
        _in_order(slot, links, [leaving[i]] if i in leaving else []) for i, slot in enumerate(outputs)
    )
    return Graph(
        nodes, links, tuple(map(_port, inputs)), led_in, tuple(next(iter(found), None) for found in led_out)
    )


def _in_order(slot: Mapping[str, Any], links: Mapping[str, Link], otherwise: list[Link]) -> tuple[Link, ...]:
    """The links in the order of the slot's own list, which says who comes first.

    The links themselves if it has none.
    """
    listed = [links[key] for key in map(identifier, items(slot.get("linkIds"))) if key in links]
    return tuple(listed or otherwise)


def node_of(written: Any) -> Node | None:
    if not isinstance(written, dict) or not isinstance(written.get("type"), str) or written.get("id") is None:
        return None
    mode = written.get("mode")
    properties = written.get("properties")
    kind: str = written["type"]
    return Node(
        identifier(written["id"]),
        OLD_NAMES.get(kind, kind),
        mode if isinstance(mode, int) else 0,
        tuple(_port(i) for i in dicts(written.get("inputs"))[:MAX_INPUTS]),
        tuple(_kind(o) for o in dicts(written.get("outputs"))),
        written.get("widgets_values"),
        properties if isinstance(properties, dict) else {},
        str(written.get("title") or ""),
    )


def _port(written: Mapping[str, Any]) -> Port:
    link = written.get("link")
    named = None if link is None else identifier(link)
    return Port(str(written.get("name", "")), _kind(written), named, isinstance(written.get("widget"), dict))


def _kind(slot: Mapping[str, Any]) -> str:
    kind = slot.get("type")
    return kind if isinstance(kind, str) else "*" if kind in (None, 0, -1) else "COMBO"


def _link(written: Any) -> Link | None:
    if isinstance(written, list) and len(written) >= 5:
        key, origin, slot, target, target_slot = written[:5]
    elif isinstance(written, dict):
        key, origin, target = written.get("id"), written.get("origin_id"), written.get("target_id")
        slot, target_slot = written.get("origin_slot"), written.get("target_slot")
    else:
        return None
    leaves, arrives = whole(slot), whole(target_slot)
    if leaves is None or arrives is None:
        return None
    return Link(identifier(key), identifier(origin), leaves, identifier(target), arrives)


def whole(value: Any) -> int | None:
    whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    return int(value) if whole and value >= 0 else None


def items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def dicts(value: Any) -> list[dict[str, Any]]:
    return [item for item in items(value) if isinstance(item, dict)]
