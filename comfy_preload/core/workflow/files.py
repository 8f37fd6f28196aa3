"""The model files that a workflow names, read straight from the JSON: before there are node classes to ask.

Takes every value of an active node that looks like a model's name. So it may list a file too many (a value
that another one stands in for), never one too few of those that are loaded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from comfy_preload.core.workflow.graph import Graph, Node, read
from comfy_preload.core.workflow.group_nodes import group_nodes
from comfy_preload.core.workflow.model_names import model_names
from comfy_preload.core.workflow.reader import is_editor_file, load
from comfy_preload.core.workflow.subgraphs import NOTES


def files_of(text: bytes | str) -> tuple[str, ...]:
    """Names of model files as loaders take them ("sub/model.safetensors"), in order, each once.

    Raises as `parse` does.
    """
    data = load(text)
    if is_editor_file(data):
        graph, subgraphs, _ = read(data)
        inside = subgraphs | group_nodes(data, lambda _: None)
        values = [node.values for node in _active(graph, inside)]
    else:
        values = [node.get("inputs") for node in data.values() if isinstance(node, dict)]
    return tuple(dict.fromkeys(name for value in values for name in model_names(value)))


def _active(graph: Graph, subgraphs: Mapping[str, Graph]) -> Iterator[Node]:
    """Nodes that run, in the file's graph and in the subgraphs that nodes which run stand for."""
    seen: set[str] = set()
    todo = [graph]
    while todo:
        for node in todo.pop().nodes.values():
            if node.active and node.type not in NOTES:
                yield node
                if node.type in subgraphs and node.type not in seen:
                    seen.add(node.type)
                    todo.append(subgraphs[node.type])
