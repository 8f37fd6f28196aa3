"""The model files that a workflow names, read straight from the JSON: before there are node classes to ask.

Takes every value of an active node that looks like a model's name. So it may tell a file too many (a value that another one
stands in for), never one that is loaded too few.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from comfy_preload.core.loader_table import MODEL_FILES
from comfy_preload.core.workflow.graph import Graph, Node, read
from comfy_preload.core.workflow.reader import is_editor_file, load
from comfy_preload.core.workflow.subgraphs import NOTES

_LONGEST = 300


def files_of(text: bytes | str) -> tuple[str, ...]:
    """Names of model files as loaders take them ("sub/model.safetensors"), in order, each once. Raises as `parse` does."""
    data = load(text)
    if is_editor_file(data):
        graph, subgraphs, _ = read(data)
        values = [node.values for node in _active(graph, subgraphs)]
    else:
        values = [node.get("inputs") for node in data.values() if isinstance(node, dict)]
    return tuple(dict.fromkeys(name for value in values for name in _names(value)))


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


def _names(value: Any) -> Iterator[str]:
    """Every name of a model file in a value, at any depth."""
    todo = [value]
    while todo:
        one = todo.pop()
        if isinstance(one, str) and one.lower().endswith(MODEL_FILES) and _is_name(one):
            yield one
        elif isinstance(one, dict):
            todo += reversed(list(one.values()))
        elif isinstance(one, list):
            todo += reversed(one)


def _is_name(text: str) -> bool:
    """Not a sentence that ends in one, nor an address."""
    return len(text) <= _LONGEST and "\n" not in text and "://" not in text
