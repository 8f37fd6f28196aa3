"""Which nodes of a graph are calls that the plan has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from comfy_preload.core.host import Host
from comfy_preload.core.node_types import LoaderSpec
from comfy_preload.core.state.residency import Residency


def planned_calls(
    host: Host, residency: Residency, nodes: Iterable[tuple[str, Mapping[str, Any]]]
) -> Iterator[tuple[LoaderSpec, Mapping[str, Any]]]:
    """Yield the calls of those nodes whose class the plan calls too, with the defaults applied.

    Args:
        host: The host.
        residency: Has the plan's calls.
        nodes: Class and inputs of each node.
    """
    targets = [slot.call.target for slot in residency.slots]
    specs = {target.spec.name: target.spec for target in targets if target}
    for name, inputs in nodes:
        if spec := specs.get(name):
            with suppress(TypeError):  # inputs that the node does not take
                yield spec, host.arguments(spec, inputs)
