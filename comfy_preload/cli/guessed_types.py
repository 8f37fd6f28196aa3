"""Node classes as one workflow file shows them, for where ComfyUI's own cannot be asked: they import torch.

The editor saves the types of inputs and outputs with each node. The API format has none of that: there every
link is of one type, so a node with a model file counts as a loader unless a loader is among what it is linked
to.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from comfy_preload.core.node_types import NodeInput, NodeSpec, NodeTypes
from comfy_preload.core.workflow.graph import Graph, Node, read
from comfy_preload.core.workflow.group_nodes import group_nodes
from comfy_preload.core.workflow.loaders import is_model
from comfy_preload.core.workflow.reader import is_editor_file, load
from comfy_preload.core.workflow.unknown import linked

_LINK = "LINK"


class GuessedTypes(NodeTypes):
    """The classes of one file.

    Classes that only stand there, without any link, are unknown: labels and the like.
    """

    def __init__(self, text: bytes) -> None:
        """Raises PreloadError if the file is not a workflow."""
        self._specs: dict[str, NodeSpec] = {}
        data = load(text)
        if is_editor_file(data):
            graph, subgraphs, _ = read(data)
            groups = group_nodes(data, lambda _: None)
            for one in (graph, *subgraphs.values(), *groups.values()):
                self._learn_graph(one, subgraphs.keys() | groups.keys())
        else:
            self._learn_prompt(data)

    def node(self, class_type: str) -> NodeSpec | None:
        return self._specs.get(class_type)

    def _learn_graph(self, graph: Graph, subgraphs: set[str]) -> None:
        used = {(link.origin, link.slot) for link in graph.links.values()}
        for node in graph.nodes.values():
            linked_to = any(port.link in graph.links for port in node.inputs)
            if node.type in subgraphs or not (linked_to or node.outputs):
                continue
            ends = linked_to and not any(origin == node.id for origin, _ in used)
            spec = NodeSpec(node.type, (*_sockets(node), *_values(node)), node.outputs, output_node=ends)
            before = self._specs.get(node.type)
            if before is None or len(spec.inputs) > len(before.inputs):
                self._specs[node.type] = spec
            elif ends:
                self._specs[node.type] = NodeSpec(node.type, before.inputs, before.outputs, output_node=True)

    def _learn_prompt(self, data: Mapping[str, Any]) -> None:
        made = [
            node for node in data.values() if isinstance(node, dict) and isinstance(node.get("inputs"), dict)
        ]
        used = {linked(value) for node in made for value in node["inputs"].values()}
        for name, node in data.items():
            if node in made and isinstance(node.get("class_type"), str):
                kinds = {key: _LINK if linked(value) else "STRING" for key, value in node["inputs"].items()}
                inputs = tuple(NodeInput(key, kind, required=False) for key, kind in kinds.items())
                outputs = (_LINK,) if name in used else ()
                spec = NodeSpec(node["class_type"], inputs, outputs, output_node=name not in used)
                self._specs.setdefault(spec.name, spec)


def _sockets(node: Node) -> tuple[NodeInput, ...]:
    return tuple(
        NodeInput(port.name, port.type, required=is_model(port.type), extra={"forceInput": True})
        for port in node.inputs
        if not port.widget
    )


def _values(node: Node) -> tuple[NodeInput, ...]:
    """The values by position, or by name. What they are called in the class is not in the file."""
    names = node.values if isinstance(node.values, dict) else range(len(node.values or ()))
    return tuple(NodeInput(f"{name}", "STRING", required=False) for name in names)
