"""Links that cg-use-everywhere draws: from its nodes to every input of the same type that has none.

The editor makes them as it sends a prompt, so a file has no links, but a list of them in `extra.ue_links`
(js/ of that plugin, use_everywhere_graph_analysis.js). Files of versions before 5 lack the list; there the
types decide.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from comfy_preload.core.workflow.graph import Graph, Link, Node, Port, dicts, identifier, whole

_NODES = re.compile(r"^(Anything|Prompts|Seed) Everywhere")
_POSITIVE = re.compile(r"(_|\b)pos(itive|_|\b)|^prompt", re.IGNORECASE)
_NEGATIVE = re.compile(r"(_|\b)neg(ative|_|\b)", re.IGNORECASE)


@dataclass(frozen=True)
class _Sent:
    """What one input of such a node sends, and to which inputs."""

    origin: str
    slot: int
    type: str
    names: re.Pattern[str] | None = None
    titles: re.Pattern[str] | None = None

    def fits(self, node: Node, port: Port) -> bool:
        return (
            port.type == self.type
            and node.id != self.origin
            and (self.names is None or self.names.search(port.name) is not None)
            and (self.titles is None or self.titles.search(node.title or node.type) is not None)
        )


def with_links(graph: Graph, data: Mapping[str, Any]) -> Graph:
    """The graph of a file, or of a subgraph definition, with these links drawn. `data`: as it was saved."""
    extra = data.get("extra")
    listed = extra.get("ue_links") if isinstance(extra, dict) else None
    drawn = list(_listed(graph, listed) if isinstance(listed, list) else _by_type(graph))
    if not drawn:
        return graph
    nodes, links = dict(graph.nodes), dict(graph.links)
    for number, (node_id, index, origin, slot) in enumerate(drawn):
        node = nodes[node_id]
        if node.inputs[index].link in links:
            continue
        link = Link(f"everywhere {number}", origin, slot, node_id, index)
        links[link.id] = link
        ports = tuple(replace(p, link=link.id) if i == index else p for i, p in enumerate(node.inputs))
        nodes[node_id] = replace(node, inputs=ports)
    return replace(graph, nodes=nodes, links=links)


def _listed(graph: Graph, rows: list[Any]) -> Iterator[tuple[str, int, str, int]]:
    for row in dicts(rows):
        node = graph.nodes.get(identifier(row.get("downstream")))
        index, slot = whole(row.get("downstream_slot")), whole(row.get("upstream_slot"))
        if node is not None and index is not None and slot is not None and index < len(node.inputs):
            yield node.id, index, identifier(row.get("upstream")), slot


def _by_type(graph: Graph) -> Iterator[tuple[str, int, str, int]]:
    sent = [one for node in graph.nodes.values() if node.active for one in _sent(graph, node)]
    for node in graph.nodes.values() if sent else ():
        if node.active and not _NODES.match(node.type):
            for index, port in enumerate(node.inputs):
                fitting = [one for one in sent if port.link is None and one.fits(node, port)]
                if fitting:  # what names its inputs goes first
                    best = max(fitting, key=lambda one: (one.names is not None) + (one.titles is not None))
                    yield node.id, index, best.origin, best.slot


def _sent(graph: Graph, node: Node) -> Iterator[_Sent]:
    kind = _NODES.match(node.type)
    if kind is None:
        return
    if kind[1] == "Seed":
        yield _Sent(node.id, 0, "INT", re.compile("seed", re.IGNORECASE))
        return
    given = node.values if isinstance(node.values, list) and node.type.endswith("?") else []
    titles, names = (_pattern(value) for value in (*given[:2], *(None, None))[:2])
    for index, port in enumerate(node.inputs):
        link = graph.links.get(port.link or "")
        origin = graph.nodes.get(link.origin) if link is not None else None
        if link is not None and origin is not None and link.slot < len(origin.outputs):
            by_name = (_POSITIVE, _NEGATIVE)[index > 0] if kind[1] == "Prompts" else names
            yield _Sent(origin.id, link.slot, origin.outputs[link.slot], by_name, titles)


def _pattern(value: Any) -> re.Pattern[str] | None:
    """A regular expression of the user's; one that is none, or means everything, does not count."""
    if not isinstance(value, str) or value in ("", ".*"):
        return None
    try:
        return re.compile(value)
    except re.error:
        return None
