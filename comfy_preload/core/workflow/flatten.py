"""A workflow of ComfyUI's editor -> the prompt that the editor would send.

Does what `graphToPrompt` does (src/utils/executionUtil.ts and ExecutableNodeDTO.ts of ComfyUI_frontend):
subgraphs are laid out, muted nodes left out, bypassed ones bridged, and nodes that only the editor knows
replaced by what they stand for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from comfy_preload.core.errors import Problem, problem
from comfy_preload.core.node_types import NodeSpec, accepts
from comfy_preload.core.workflow.graph import BYPASSED, INPUT_NODE, MUTED, Graph, Node, Port, shown
from comfy_preload.core.workflow.model_names import model_names
from comfy_preload.core.workflow.subgraphs import VIRTUAL, Known, Layouts, Scope
from comfy_preload.core.workflow.unknown import Foreign, Prompt, linked
from comfy_preload.core.workflow.widgets import UNSET, boxed, filled

_GETTER = re.compile(r"(?<![a-z])get(?=[ _]?node\b)", re.IGNORECASE)
_SETTER = re.compile(r"(?<![a-z])set(?=[ _]?node\b)", re.IGNORECASE)
MAX_HOPS = 1000
"""Reroutes and subgraphs one after another in one connection."""


@dataclass(frozen=True)
class Value:
    """What a connection comes to if it ends at a value and not at a node."""

    value: Any
    primitive: bool = False
    """It is put into the widget, which then sends it its own way."""


@dataclass(frozen=True)
class Source:
    """The output of a node that a connection comes from."""

    node: str
    slot: int


class _At:
    """Where a connection was followed to: an input, or an output, of a node."""

    def __init__(self, scope: Scope, node: Node, slot: int | str, kind: str, *, output: bool) -> None:
        self.scope, self.node, self.slot, self.kind, self.output = scope, node, slot, kind, output

    @property
    def place(self) -> tuple[str, int | str, bool]:
        return self.scope.name(self.node), self.slot, self.output


class Flatten:
    """One file on its way to a prompt."""

    def __init__(self, graph: Graph, subgraphs: Mapping[str, Graph], known: Known) -> None:
        self._known = known
        self._layouts = Layouts(graph, subgraphs, known)
        self.problems: list[Problem] = self._layouts.problems
        self.foreign: dict[str, Foreign] = {}
        """The nodes whose classes are unknown. They are in the prompt, with what is linked to them."""
        self._unknown: dict[str, Node] = {}
        self.unsent: dict[str, tuple[str, ...]] = {}
        """By node: model files in the file and not in the prompt.

        Another node decides, or a plugin's own script.
        """

    def prompt(self) -> Prompt:
        """Every node that runs, with its inputs.

        Links to nodes that do not run are left out, as the editor does.
        """
        made: Prompt = {}
        todo = [self._layouts.root]
        while todo:
            scope = todo.pop()
            for node in scope.graph.nodes.values():
                if self._is_virtual(node) or not node.active:
                    continue
                if node.id in scope.children:
                    todo.append(scope.children[node.id])
                elif not self._layouts.is_subgraph(node):
                    self._add(made, scope, node)
        for node in made.values():
            gone = [k for k, v in node["inputs"].items() if isinstance(v, list) and v[0] not in made]
            for name in gone:
                del node["inputs"][name]
        for name, node in self._unknown.items():
            self.foreign[name] = _foreign(node, made[name]["inputs"])
        return made

    def _is_virtual(self, node: Node) -> bool:
        """Is it there for the editor only, by a class that is known to be?"""
        return node.type in VIRTUAL or (
            (_setter_of(node.type) is not None or _is_setter(node.type)) and self._layouts.spec(node) is None
        )

    def _add(self, made: Prompt, scope: Scope, node: Node) -> None:
        if self._layouts.spec(node) is None:
            self._unknown[scope.name(node)] = node
        widgets = self._layouts.values(scope, node)
        inputs = {name: w.to_send() for name, w in widgets.items() if w.is_set}
        for port in self._layouts.ports(scope, node).values():
            found = self._follow(scope, node, port)
            if isinstance(found, Source):
                inputs[port.name] = [found.node, found.slot]
            elif found is not None and found.primitive and port.name in widgets:
                widgets[port.name].value = found.value
                inputs[port.name] = widgets[port.name].to_send()
            elif found is not None:
                inputs[port.name] = boxed(found.value)
        made[scope.name(node)] = {"class_type": node.type, "inputs": inputs}
        if (spec := self._layouts.spec(node)) is not None:
            self._note_unsent(scope.name(node), spec, node, inputs)

    def _note_unsent(self, name: str, spec: NodeSpec, node: Node, inputs: Mapping[str, Any]) -> None:
        named = tuple(dict.fromkeys(model_names(node.values)))
        if not named:
            return
        sent = {
            file
            for key, widget in filled(spec, node.values).items()
            if linked(inputs.get(key)) is None
            for file in model_names(widget.value)
        }
        if others := tuple(file for file in named if file not in sent):
            self.unsent[name] = others

    def _follow(self, scope: Scope, node: Node, port: Port) -> Source | Value | None:
        """Where an input gets its value from; None if from nowhere, and then its widget counts."""
        at = _At(scope, node, port.name, port.type, output=False)
        seen: set[tuple[str, int | str, bool]] = set()
        rerouted = False
        while True:
            if at.place in seen or len(seen) > MAX_HOPS:
                self.problems.append(problem("workflow_cycle", node=shown(scope.name(node))))
                return None
            seen.add(at.place)
            step = self._leave(at) if at.output else self._enter(at)
            if not isinstance(step, _At):
                # A primitive sets the widget at the other end of its link: a reroute has none.
                return None if rerouted and isinstance(step, Value) and step.primitive else step
            rerouted = rerouted or (at.output and at.node.type == "Reroute")
            at = step

    def _enter(self, at: _At) -> _At | Value | None:
        """From an input to the output that is linked to it."""
        port = self._layouts.ports(at.scope, at.node).get(str(at.slot))
        if port is None or port.link is None:
            inner = at.scope.children.get(at.node.id)
            held = inner.promoted.get(str(at.slot), UNSET) if inner is not None else UNSET
            return None if held is UNSET else Value(held)
        link = at.scope.graph.links.get(port.link)
        if (
            link is not None
            and link.origin == INPUT_NODE
            and at.scope.parent is not None
            and at.scope.host is not None
        ):
            inputs = at.scope.graph.inputs
            if link.slot < len(inputs):
                return _At(at.scope.parent, at.scope.host, inputs[link.slot].name, "", output=False)
            link = None
        origin = at.scope.graph.nodes.get(link.origin) if link is not None else None
        if link is None or origin is None:
            where = shown(at.scope.name(at.node))
            self.problems.append(problem("workflow_link_missing", node=where, input=shown(port.name)))
            return None
        return _At(at.scope, origin, link.slot, at.kind or port.type, output=True)

    def _leave(self, at: _At) -> _At | Source | Value | None:
        """From an output of a node to what it stands for."""
        scope, node, slot = at.scope, at.node, int(at.slot)
        if node.mode == MUTED:
            return None
        if node.mode == BYPASSED:
            name = self._bridge(at, slot)
            return _At(scope, node, name, "", output=False) if name is not None else None
        if node.id in scope.children:
            return self._into(scope.children[node.id], slot, at.kind)
        return self._stands_for(at, slot) if self._is_virtual(node) else Source(scope.name(node), slot)

    def _stands_for(self, at: _At, slot: int) -> _At | Value | None:
        """What an output of a node that only the editor knows comes to."""
        node = at.node
        held = node.values if isinstance(node.values, list) else []
        if node.type == "PrimitiveNode":
            held = [at.scope.primitives.get(node.id, *held[:1])] if held else []
            return Value(held[0], primitive=True) if held else None
        if setter := _setter_of(node.type):
            return _set_node(at.scope, setter, held[:1], at.kind)
        names = list(self._layouts.ports(at.scope, node))
        return _At(at.scope, node, names[slot], at.kind, output=False) if slot < len(names) else None

    def _into(self, inner: Scope, slot: int, kind: str) -> _At | None:
        """From an output of a subgraph node to the output inside that is linked to it."""
        link = inner.graph.output_links[slot] if slot < len(inner.graph.output_links) else None
        if link is None:
            return None
        if link.origin == INPUT_NODE:
            inputs = inner.graph.inputs
            if inner.parent is None or inner.host is None or link.slot >= len(inputs):
                return None
            return _At(inner.parent, inner.host, inputs[link.slot].name, kind, output=False)
        origin = inner.graph.nodes.get(link.origin)
        return _At(inner, origin, link.slot, kind, output=True) if origin is not None else None

    def _bridge(self, at: _At, slot: int) -> str | None:
        """The input that a bypassed node hands on at an output.

        Source: #getBypassSlotIndex, ExecutableNodeDTO.ts.
        """
        ports, wanted = tuple(self._layouts.ports(at.scope, at.node).values()), at.kind
        if not ports:
            return None
        if wanted in ("", "*"):
            return ports[slot if slot < len(ports) else 0].name
        spec = self._layouts.spec(at.node)
        outputs = spec.outputs if spec is not None else at.node.outputs
        offered = outputs[slot] if slot < len(outputs) else wanted
        fitting = [i for i, p in enumerate(ports) if accepts(p.type, offered) and accepts(p.type, wanted)]
        if slot in fitting:
            return ports[slot].name
        exact = [i for i, p in enumerate(ports) if p.type == wanted]
        return next((ports[i].name for i in (*exact, *fitting)), None)


def _set_node(scope: Scope, setter: str, name: list[Any], kind: str) -> _At | None:
    """From a node that gets a value to the one that sets it under the same name, here or further out."""
    place: Scope | None = scope
    while place is not None and name:
        for other in place.graph.nodes.values():
            if (
                other.type.lower() == setter
                and isinstance(other.values, list)
                and other.values[:1] == name
                and other.inputs
            ):
                return _At(place, other, other.inputs[0].name, kind, output=False)
        place = place.parent
    return None


def _setter_of(kind: str) -> str | None:
    """The class, in small letters, that sets what a class gets.

    `GetNode` of KJNodes, `easy getNode`, and their kin.
    """
    return _GETTER.sub("set", kind).lower() if _GETTER.search(kind) else None


def _is_setter(kind: str) -> bool:
    return _SETTER.search(kind) is not None


def _foreign(node: Node, inputs: Mapping[str, Any]) -> Foreign:
    """What is known of a node without its class: what the file says of it."""
    kinds = {port.name: port.type for port in node.inputs}
    links = [key for key, value in inputs.items() if linked(value) is not None]
    ends = {kinds.get(key, "*") for key in links}
    one = len(links) == len(inputs) == len(node.outputs) == 1 and not node.values
    return Foreign(
        node.type,
        node.plugin,
        hands_on=one and accepts(next(iter(ends)), node.outputs[0]),
        may_end=bool(ends - {"*"}),
        files=tuple(dict.fromkeys(model_names(node.values))),
    )
