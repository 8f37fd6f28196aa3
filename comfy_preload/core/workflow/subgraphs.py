"""Every graph of a file laid out: the file's own, and each subgraph once for every node that stands for it.

A node that stands for a subgraph may show widgets of nodes inside ("promoted"). Their values stand outside
and count more than those inside. Source: SubgraphNode.ts, proxyWidget.ts and proxyWidgetMigration.ts of
ComfyUI_frontend.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from comfy_preload.core.errors import PreloadError, Problem, failure, problem
from comfy_preload.core.node_types import NodeSpec, NodeTypes
from comfy_preload.core.workflow.graph import Graph, Link, Node, Place, Port, shown
from comfy_preload.core.workflow.widgets import UNSET, Layout, Widget, filled, layout, socket_type

MAX_NODES = 20_000
"""Subgraphs within subgraphs multiply: a file of some kilobytes can stand for millions of nodes."""
MAX_DEPTH = 50
NOTES = frozenset({"Note", "MarkdownNote"})
VIRTUAL = NOTES | {"Reroute", "PrimitiveNode", "SetNode", "GetNode"}
"""Nodes that are there for the editor only."""
_PREFIX = re.compile(r"^\s*\d+\s*:\s*")


class Known:
    """The node classes, each asked for once.

    A class that raises is as good as none, and costs one problem.
    """

    def __init__(self, types: NodeTypes) -> None:
        self._types = types
        self._specs: dict[str, NodeSpec | None] = {}
        self._layouts: dict[str, Layout] = {}
        self.problems: list[Problem] = []

    def spec(self, class_type: str) -> NodeSpec | None:
        if class_type not in self._specs:
            try:
                self._specs[class_type] = self._types.node(class_type)
            except Exception as error:  # noqa: BLE001 — a node's own INPUT_TYPES(): one bad class costs its nodes
                self.problems.append(failure(shown(class_type), error))
                self._specs[class_type] = None
        return self._specs[class_type]

    def renewed(self, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """Replace classes that are gone by their successors, among the nodes of a prompt."""
        nodes = {
            name: node
            for name, node in data.items()
            if isinstance(node, dict) and isinstance(node.get("inputs"), dict) and "class_type" in node
        }
        return {**data, **self._types.renewed(nodes)}

    def is_output(self, class_type: str) -> bool:
        """Does ComfyUI run such a node for its own sake?"""
        spec = self.spec(class_type)
        return spec is not None and spec.output_node

    def layout(self, spec: NodeSpec) -> Layout:
        if spec.name not in self._layouts:
            self._layouts[spec.name] = layout(spec)
        return self._layouts[spec.name]


@dataclass(eq=False)
class Scope:
    """One graph, at one place. Nodes inside are named by `path` and their own id: 12:5."""

    graph: Graph
    path: tuple[str, ...] = ()
    parent: Scope | None = None
    host: Node | None = None
    """The node in `parent` that stands for this graph."""
    above: tuple[str, ...] = ()
    """The subgraph definitions that this one stands in."""
    children: dict[str, Scope] = field(default_factory=dict)
    widgets: dict[str, dict[str, Widget]] = field(default_factory=dict)
    """By node and name, where a file or a promoted widget gives values."""
    promoted: dict[str, Any] = field(default_factory=dict)
    """By input of this subgraph: the value that stands for it while nothing is linked."""
    primitives: dict[str, Any] = field(default_factory=dict)
    """By PrimitiveNode: the value that the group node around it gives."""

    def name(self, node: Node) -> str:
        return ":".join((*self.path, node.id))


class Layouts:
    """All scopes of one file, and the inputs of the nodes in them."""

    def __init__(self, graph: Graph, subgraphs: Mapping[str, Graph], known: Known) -> None:
        self._subgraphs = subgraphs
        self._known = known
        self._ports: dict[tuple[int, str], dict[str, Port]] = {}
        self.problems: list[Problem] = []
        self.root = Scope(graph)
        self.scopes: list[Scope] = []
        """Outer ones before inner ones."""
        count = 0
        todo = [self.root]
        while todo:
            scope = todo.pop()
            self.scopes.append(scope)
            count += len(scope.graph.nodes)
            if count > MAX_NODES:
                found = f"more than {MAX_NODES} nodes once its subgraphs are laid out"
                raise PreloadError(problem("workflow_too_large", found=found, expected=str(MAX_NODES)))
            todo += self._inside(scope)
        for scope in reversed(self.scopes):
            self._promote(scope)

    def is_subgraph(self, node: Node) -> bool:
        return node.type in self._subgraphs

    def spec(self, node: Node) -> NodeSpec | None:
        return None if self.is_subgraph(node) or node.type in VIRTUAL else self._known.spec(node.type)

    def values(self, scope: Scope, node: Node) -> dict[str, Widget]:
        """The node's widgets, each with the value that it holds at this place."""
        found = scope.widgets.get(node.id)
        if found is None:
            spec = self.spec(node)
            found = scope.widgets[node.id] = filled(spec, node.values) if spec else {}
        return found

    def ports(self, scope: Scope, node: Node) -> Mapping[str, Port]:
        """The node's inputs by name, as the editor orders them: the class's, then others in the file."""
        key = (id(scope.graph), node.id)
        if key not in self._ports:
            self._ports[key] = self._ordered(node)
        return self._ports[key]

    def _ordered(self, node: Node) -> dict[str, Port]:
        saved = {port.name: port for port in reversed(node.inputs)}
        spec = self.spec(node)
        if self.is_subgraph(node):
            wanted = {i.name: i.type for i in self._subgraphs[node.type].inputs}
        elif spec is not None:
            look = self._known.layout(spec)
            wanted = {i.name: socket_type(i) for i in look.sockets}
            wanted |= {w.name: w.input.type for w in look.widgets if w.input}
        else:
            wanted = {}
        known = {
            name: Port(name, kind, saved[name].link if name in saved else None)
            for name, kind in wanted.items()
        }
        return known | {port.name: saved[port.name] for port in node.inputs if port.name not in wanted}

    def _inside(self, scope: Scope) -> Iterator[Scope]:
        for node in scope.graph.nodes.values():
            if not self.is_subgraph(node):
                continue
            if node.type in scope.above or len(scope.above) > MAX_DEPTH:
                self.problems.append(problem("workflow_cycle", node=shown(scope.name(node))))
                continue
            child = Scope(
                self._subgraphs[node.type], (*scope.path, node.id), scope, node, (*scope.above, node.type)
            )
            scope.children[node.id] = child
            yield child

    def _promote(self, scope: Scope) -> None:
        """Find the widgets that the inputs of a subgraph stand for, and the values outside.

        Inner ones come first.
        """
        host = scope.host
        if host is None:
            return
        if scope.graph.places is not None:
            self._fill(scope, host, scope.graph.places)
            return
        for port, links in zip(scope.graph.inputs, scope.graph.input_links, strict=True):
            for link in links:
                found = self._behind(scope, link)
                if found is not None:
                    scope.promoted[port.name] = found[0]
                    break
        values = host.values if isinstance(host.values, list) else []
        for name, value in zip(tuple(scope.promoted), values, strict=False):
            scope.promoted[name] = value
        for (node, widget), value in zip(proxies(host), values, strict=False):
            if value is not None:
                self._set(scope, node, widget, value)

    def _fill(self, scope: Scope, host: Node, places: Sequence[Place | None]) -> None:
        """Put the values of a group node into the widgets inside."""
        for place, value in zip(places, host.values if isinstance(host.values, list) else (), strict=False):
            node = scope.graph.nodes.get(place.node) if place is not None else None
            if place is None or node is None:
                continue
            if node.type == "PrimitiveNode":
                scope.primitives[node.id] = value
            elif widget := self.values(scope, node).get(place.widget):
                widget.value = value

    def _behind(self, scope: Scope, link: Link) -> tuple[Any] | None:
        """The value of the widget that a link from a subgraph's input leads to."""
        node = scope.graph.nodes.get(link.target)
        if node is None:
            return None
        ports = self.ports(scope, node)
        name = _target(ports, link)
        inner = scope.children.get(node.id)
        if inner is not None:
            return (inner.promoted[name],) if name in inner.promoted else None
        if (
            name is not None and self.spec(node) is None
        ):  # not installed; yet its values have their places outside
            return (UNSET,) if ports[name].widget else None
        widget = self.values(scope, node).get(name or "")
        return (widget.value,) if widget is not None and widget.input is not None else None

    def _set(self, scope: Scope, node_id: str, name: str, value: Any) -> None:
        """Put a value from outside into a widget inside, or into the input that leads to it."""
        if node_id == "-1":
            if name in scope.promoted:
                scope.promoted[name] = value
            return
        node = scope.graph.nodes.get(node_id)
        if node is None:
            return
        for port, links in zip(scope.graph.inputs, scope.graph.input_links, strict=True):
            for link in links:
                leads = link.target == node_id and _target(self.ports(scope, node), link) == name
                if leads and port.name in scope.promoted:
                    scope.promoted[port.name] = value
                    return
        held = self.values(scope, node)
        widget = held.get(name) or held.get(_PREFIX.sub("", name))
        if widget is not None:
            widget.value = value
        elif node_id in scope.children:
            inner = scope.children[node_id]
            bare = _PREFIX.sub("", name)
            if bare in inner.promoted:
                inner.promoted[bare] = value


def proxies(host: Node) -> list[tuple[str, str]]:
    """The widgets inside that a subgraph node shows.

    (node inside, or -1 for its own input; name of the widget).
    """
    rows = host.properties.get("proxyWidgets")
    if isinstance(rows, str):
        try:
            rows = json.loads(rows)
        except (ValueError, RecursionError):
            rows = None
    if not isinstance(rows, list):
        return []
    return [(str(r[0]), str(r[1])) if isinstance(r, list) and len(r) >= 2 else ("", "") for r in rows]


def _target(ports: Mapping[str, Port], link: Link) -> str | None:
    """The name of the input that a link leads to.

    By the link's own id, since slot numbers change with the class.
    """
    return next((port.name for port in ports.values() if port.link == link.id), None)
