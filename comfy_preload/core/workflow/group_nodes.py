"""Group nodes, which subgraphs replaced.

The definitions in a file's `extra.groupNodes` -> subgraphs like any other.

A group node shows widgets of the nodes inside, and its file has their values by position. Which there are,
and in which order, follows src/extensions/core/groupNode.ts of ComfyUI_frontend (`GroupNodeConfig`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from comfy_preload.core.node_types import NodeInput, NodeSpec
from comfy_preload.core.workflow.graph import (
    INPUT_NODE,
    OUTPUT_NODE,
    Graph,
    Link,
    Node,
    Place,
    Port,
    dicts,
    items,
    node_of,
    whole,
)
from comfy_preload.core.workflow.widgets import is_widget, layout, widgets_of

PREFIXES = ("workflow>", "workflow/")
"""What stands before a group's name in the type of its nodes: now, and before front end 1.2.63."""
Spec = Callable[[str], NodeSpec | None]


def group_nodes(data: Mapping[str, Any], spec: Spec) -> dict[str, Graph]:
    """The groups of a file, by every type that their nodes may have."""
    extra = data.get("extra")
    groups = extra.get("groupNodes") if isinstance(extra, dict) else None
    found: dict[str, Graph] = {}
    for name, group in groups.items() if isinstance(groups, dict) else ():
        if isinstance(group, dict):
            graph = _Group(group, spec).graph()
            found |= dict.fromkeys((f"{prefix}{name}" for prefix in PREFIXES), graph)
    return found


class _Group:
    """One definition on its way to a graph. Nodes inside are named by their position, as the editor does."""

    def __init__(self, group: Mapping[str, Any], spec: Spec) -> None:
        self._spec = spec
        self._written = dicts(group.get("nodes"))
        self._titles = [str(n.get("title") or n.get("type")) for n in self._written]
        made = (node_of({**written, "id": i}) for i, written in enumerate(self._written))
        self._nodes = [node if node is not None else Node(str(i), "") for i, node in enumerate(made)]
        config = group.get("config")
        self._config: Mapping[str, Any] = config if isinstance(config, dict) else {}
        self._external = {
            (_at(e, 0), _at(e, 1)): str(e[2])
            for e in items(group.get("external"))
            if isinstance(e, list) and len(e) > 2
        }
        self._links: dict[str, Link] = {}
        for order, written in enumerate(items(group.get("links"))):
            origin, slot, target, target_slot = (_at(written, i) for i in range(4))
            if None not in (origin, slot, target, target_slot) and max(origin, target) < len(self._nodes):
                key = f"inside {order}"
                self._links[key] = Link(key, str(origin), slot, str(target), target_slot)
        self._fed = {
            (link.target, self._named(int(link.target), link.target_slot)): link.id
            for link in self._links.values()
        }
        self._inputs: dict[str, list[Link]] = {}
        self._places: list[Place | None] = []
        self._seen: dict[str, int] = {}

    def graph(self) -> Graph:
        converted: list[tuple[int, str]] = []
        for index in range(len(self._nodes)):
            converted += self._add(index)
        for index, name in converted:  # behind all others
            self._show(index, name)
        nodes = {str(i): self._linked(node) for i, node in enumerate(self._nodes)}
        outputs = [
            Link(f"out {i}", node, slot, OUTPUT_NODE, i) for i, (node, slot) in enumerate(self._outputs())
        ]
        return Graph(
            nodes,
            {**self._links, **{link.id: link for links in self._inputs.values() for link in links}},
            tuple(Port(name) for name in self._inputs),
            tuple(map(tuple, self._inputs.values())),
            tuple(outputs),
            tuple(self._places),
        )

    def _add(self, index: int) -> Iterator[tuple[int, str]]:
        """Show what a node inside has that nothing inside is linked to.

        Yields its widgets that were made into inputs.
        """
        node = self._nodes[index]
        inputs = self._declared(index)
        saved = {port.name for port in node.inputs if port.widget}
        for given in (i for i in inputs if is_widget(i)):
            if given.name in saved:
                if (str(index), given.name) not in self._fed:
                    yield index, given.name
                continue
            self._show(index, given.name)
            self._places += [
                Place(str(index), widget.name) if widget.sent else None for widget in widgets_of(given)
            ]
        for given in inputs:
            fed = (str(index), given.name) in self._fed
            if (
                not is_widget(given)
                and not fed
                and self._told(index, "input", given.name).get("visible") is not False
            ):
                self._show(index, given.name)

    def _declared(self, index: int) -> tuple[NodeInput, ...]:
        """The inputs of a node inside, as the editor goes through them."""
        node = self._nodes[index]
        out = [link for link in self._links.values() if link.origin == node.id]
        if node.type == "PrimitiveNode":
            return (self._primitive(out[0]),) if out else ()
        if node.type == "Reroute":
            inside = out and any(link.target == node.id for link in self._links.values())
            hidden = inside and (index, 0) not in self._external
            return () if hidden else (NodeInput(self._named(index, 0), "*", extra={"forceInput": True}),)
        spec = self._spec(node.type)
        if spec is None:
            return tuple(NodeInput(port.name, "*", extra={"forceInput": True}) for port in node.inputs)
        look = layout(spec)
        widgets = {w.name: w.input for w in look.widgets if w.input is not None}
        return tuple(i for i in spec.inputs if i in look.sockets or i.name in widgets)

    def _rerouted(self, index: int) -> str:
        """The type that a reroute carries: what the editor calls its input."""
        node = self._nodes[index]
        links = self._links.values()
        into = [
            self._nodes[int(link.target)].inputs[link.target_slot : link.target_slot + 1]
            for link in links
            if link.origin == node.id
        ]
        kinds = [port.type for ports in into for port in ports]
        if not into:
            from_ = (link for link in links if link.target == node.id)
            kinds = [
                kind
                for link in from_
                for kind in self._nodes[int(link.origin)].outputs[link.slot : link.slot + 1]
            ]
            kinds += [kind for (i, _), kind in self._external.items() if i == index]
        return next((kind for kind in kinds if kind != "*"), "*")

    def _primitive(self, link: Link) -> NodeInput:
        """What a primitive inside stands for: the widget that it is linked to."""
        target = self._nodes[int(link.target)]
        spec = self._spec(target.type)
        name = self._named(int(link.target), link.target_slot)
        given = next((i for i in spec.inputs if i.name == name), None) if spec is not None else None
        if given is None:
            return NodeInput("value", "STRING")
        return replace(given, name="value", extra={**given.extra, "control_after_generate": True})

    def _show(self, index: int, name: str) -> None:
        """Give the group an input that leads to one inside."""
        shown = self._shown(index, name)
        links = self._inputs.setdefault(shown, [])
        slot = list(self._inputs).index(shown)
        key = f"in {index} {name}"
        links.append(Link(key, INPUT_NODE, slot, str(index), 0))
        self._fed.setdefault((str(index), name), key)

    def _shown(self, index: int, name: str) -> str:
        """What the group calls an input of a node inside (`getInputConfig`)."""
        node, title = self._nodes[index], self._titles[index]
        labels = {str(i.get("name", "")): i.get("label") for i in dicts(self._written[index].get("inputs"))}
        own = self._rerouted(index) if node.type == "Reroute" else name
        shown = key = str(self._told(index, "input", own).get("name") or labels.get(name) or own)
        if (node.type == "PrimitiveNode" and node.title) or shown in self._seen:
            shown = key = f"{title} {own}"
            if shown in self._seen:
                shown = f"{title} {self._seen[shown]} {own}"
        self._seen[key] = self._seen.get(key, 1) + 1
        return shown

    def _outputs(self) -> Iterator[tuple[str, int]]:
        """The outputs inside that the group shows, in its order.

        Those not used inside, or used outside too.
        """
        used = {(int(link.origin), link.slot) for link in self._links.values()} - self._external.keys()
        for index, node in enumerate(self._nodes):
            spec = self._spec(node.type)
            count = len(spec.outputs if spec is not None else node.outputs)
            if node.type in ("PrimitiveNode", "Reroute"):
                count = len(self._declared(index))
            for slot in range(count):
                if self._told(index, "output", str(slot)).get("visible", (index, slot) not in used):
                    yield node.id, slot

    def _told(self, index: int, side: str, name: str) -> Mapping[str, Any]:
        """What the file has of one slot: another name, or that it is hidden."""
        at: Any = self._config
        for key in (str(index), side, name):
            at = at.get(key) if isinstance(at, dict) else None
        return at if isinstance(at, dict) else {}

    def _named(self, index: int, slot: int) -> str:
        ports = self._nodes[index].inputs
        if slot < len(ports):
            return ports[slot].name
        declared = self._spec(self._nodes[index].type)
        sockets = layout(declared).sockets if declared is not None else ()
        return sockets[slot].name if slot < len(sockets) else ""

    def _linked(self, node: Node) -> Node:
        """The node with its links as they are inside the group.

        Those in the file are of the graph it was made in.
        """
        names = dict.fromkeys(
            (*(port.name for port in node.inputs), *(n for i, n in self._fed if i == node.id))
        )
        ports = {port.name: port for port in node.inputs}
        return replace(
            node,
            inputs=tuple(
                replace(ports.get(name, Port(name)), link=self._fed.get((node.id, name))) for name in names
            ),
        )


def _at(row: Any, index: int) -> Any:
    return whole(row[index]) if isinstance(row, list) and index < len(row) else None
