"""What ComfyUI's node classes declare, for reading workflows (core/node_types.py).

V1 classes say it in INPUT_TYPES() and RETURN_TYPES; V3 classes answer both in the same form (`get_v1_info`,
comfy_api/latest/_io.py), dynamic inputs with their templates included.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from comfy_preload.core.node_types import NodeSpec, NodeTypes, declared
from comfy_preload.host.node_classes import node_classes
from comfy_preload.host.replacements import renewed
from comfy_preload.host.server import prompt_server


class ComfyNodeTypes(NodeTypes):
    """The classes of the running ComfyUI, each asked once: INPUT_TYPES() may list folders.

    Make one per use.
    """

    def __init__(self) -> None:
        self._specs: dict[str, NodeSpec | None] = {}

    def node(self, class_type: str) -> NodeSpec | None:
        """Describe a node class. Raises what its INPUT_TYPES() raises."""
        if class_type not in self._specs:
            cls = node_classes().get(class_type)
            self._specs[class_type] = None if cls is None else _describe(class_type, cls)
        return self._specs[class_type]

    def renewed(self, prompt: Mapping[str, Any]) -> Mapping[str, Any]:
        return renewed(prompt_server(), prompt)


def _describe(name: str, cls: type[Any]) -> NodeSpec:
    returned = getattr(cls, "RETURN_TYPES", None)
    return declared(
        name,
        cls.INPUT_TYPES(),
        tuple(returned or ()),
        output_node=bool(getattr(cls, "OUTPUT_NODE", False)),
        api_node=bool(getattr(cls, "API_NODE", False)),
    )
