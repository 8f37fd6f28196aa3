"""`ComfyPreload_Model`: return a preloaded model by its name in preload.yaml, so that a graph names no files.

It calls the planned loader with the planned inputs, as a stock loader node would. So it returns the kept
object and counts a hit; a released model or a replaced file is loaded again, and so is one whose class
answers ComfyUI's question whether to run again with something new.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from comfy_preload.core.errors import Problem
from comfy_preload.core.host import Host
from comfy_preload.core.planning.call import Target
from comfy_preload.core.state.slot import Loaded, Slot, file_stamp

from . import running

KINDS = ("MODEL", "CLIP", "VAE")


class PreloadedModelError(Exception):
    """The model cannot be returned. ComfyUI shows the message at the node."""


class PreloadedModel:
    """Return a model, a text encoder and a VAE by name."""

    DESCRIPTION = (
        "Returns the model that was preloaded under a name in preload.yaml. Which outputs exist "
        "depends on its loader."
    )
    CATEGORY = "loaders"
    FUNCTION = "hand_out"
    RETURN_TYPES = KINDS
    OUTPUT_TOOLTIPS = (
        "The diffusion model, if the entry loads one.",
        "The text encoder, if the entry loads one.",
        "The VAE, if the entry loads one.",
    )
    SEARCH_ALIASES: ClassVar[list[str]] = ["preload", "preloaded checkpoint"]

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        options = {"tooltip": "The name of an entry in preload.yaml. Press R to refresh the names."}
        return {
            "required": {"model": (running.names(), options)},
            "hidden": {"unique_id": "UNIQUE_ID", "graph": "DYNPROMPT"},
        }

    @classmethod
    def VALIDATE_INPUTS(cls, model: str) -> bool | str:
        """Replace ComfyUI's own check, which reports only that the value is not in a list."""
        return True if running.slot_of(model) else running.unknown(model)

    @classmethod
    def IS_CHANGED(cls, model: str, **_hidden: Any) -> float:
        """Return the same number while the same object would be returned."""
        slot = running.slot_of(model)
        return float("nan") if slot is None else float(_generations.due(slot))

    async def hand_out(self, model: str, unique_id: str, graph: Any) -> tuple[Any, ...]:
        preloader, slot = running.preloader(), running.slot_of(model)
        if preloader is None or slot is None:
            raise PreloadedModelError(running.unknown(model))
        target = slot.call.target
        if target is None or slot.call.problems:
            raise PreloadedModelError(f"'{model}' could not be preloaded. {_sentences(slot.problems)}")
        outputs = await _outputs(preloader.host, slot, target)
        _generations.note(slot)
        found = _by_kind(
            _types(preloader.host.node_types().node(target.spec.name)), preloader.host.values(outputs)
        )
        for number, kind in enumerate(KINDS):
            if kind not in found and _is_used(graph, unique_id, number):
                raise PreloadedModelError(_missing(model, slot, kind, found))
        return tuple(
            found[kind] if kind in found else _blocker(_missing(model, slot, kind, found)) for kind in KINDS
        )


async def _outputs(host: Host, slot: Slot, target: Target) -> Any:
    if not slot.call.entry.links:
        return await host.call(target.spec, target.inputs, target.node)
    if slot.loaded is None:  # what other nodes give it is known only where they run
        raise PreloadedModelError(
            f"'{slot.call.name}' is not loaded, and its loader takes inputs from other nodes. "
            f"Run {slot.call.entry.workflow}, or reload it in the panel."
        )
    slot.hits += 1
    return slot.loaded.outputs


def _types(spec: Any) -> Sequence[str]:
    return spec.outputs if spec else ()


def _by_kind(types: Sequence[str], values: Sequence[Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for kind, value in zip(types, values, strict=False):
        if kind in KINDS and value is not None:  # a checkpoint without a text encoder returns None
            found.setdefault(kind, value)
    return found


def _missing(name: str, slot: Slot, kind: str, found: Mapping[str, Any]) -> str:
    given = " and ".join(found) or "none of MODEL, CLIP and VAE"
    return (
        f"'{name}' has no {kind}: {slot.call.entry.loader} returned {given}. "
        f"Take the {kind} from another entry of preload.yaml."
    )


def _sentences(problems: Sequence[Problem]) -> str:
    return " ".join(p.text for p in problems[:3])


def _is_used(graph: Any, node_id: str, output: int) -> bool:
    """Return whether any node of the graph uses this output (`DynamicPrompt`, comfy_execution/graph.py)."""
    inputs = (graph.get_node(other).get("inputs", {}) for other in graph.all_node_ids())
    return any(value == [node_id, output] for one in inputs for value in one.values())


def _blocker(message: str) -> Any:
    """Return a value that shows the message if the executor reuses a cached output in another graph."""
    from comfy_execution.graph_utils import ExecutionBlocker  # pyright: ignore[reportMissingImports] — only inside ComfyUI

    return ExecutionBlocker(message)


@dataclass
class _Seen:
    number: int
    loaded: weakref.ref[Loaded] | None


class _Generations:
    """Count, for each name, the objects that were returned.

    References are weak: a released model is not kept alive.
    """

    def __init__(self) -> None:
        self._seen: dict[str, _Seen] = {}

    def note(self, slot: Slot) -> int:
        """Return the number of the object that is loaded now."""
        seen = self._seen.setdefault(slot.call.name, _Seen(0, None))
        loaded = slot.loaded
        if loaded is not None and (seen.loaded is None or seen.loaded() is not loaded):
            seen.number += 1
            seen.loaded = weakref.ref(loaded)
        return seen.number

    def due(self, slot: Slot) -> int:
        """Return the number of the object that a call would return: the next one if it would load."""
        number = self.note(slot)
        return number if _is_fresh(slot) else number + 1


def _is_fresh(slot: Slot) -> bool:
    """Return whether a call would return what is loaded: as `Residency.recall` decides it."""
    preloader, target = running.preloader(), slot.call.target
    if slot.loaded is None or target is None or preloader is None:
        return False
    if slot.call.entry.links:
        return True
    if file_stamp(slot.call.paths) not in (slot.loaded.stamp, None):
        return False
    return preloader.host.changes(target.spec, target.inputs, target.node) == slot.loaded.changes


_generations = _Generations()
