"""The way from a node in a graph to the preload of this process, if there is one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from comfy_preload.core.state.residency import Slot
from comfy_preload.core.state.snapshot import Snapshot

if TYPE_CHECKING:
    from comfy_preload.boot.plugin import Plugin
    from comfy_preload.preloader import Preloader

_plugin: Plugin | None = None


def attach(plugin: Plugin | None) -> None:
    """Set what the nodes ask. Called once, by `__init__.py`; ComfyUI itself makes node objects without arguments."""
    global _plugin  # noqa: PLW0603 — see above
    _plugin = plugin


def preloader() -> Preloader | None:
    """None while there is nothing to preload."""
    return _plugin.preloader if _plugin else None


def snapshot() -> Snapshot | None:
    """The state now; None where ComfyUI runs without a server."""
    return _plugin.snapshot() if _plugin else None


def slots() -> Sequence[Slot]:
    """The models of the plan, in its order."""
    running = preloader()
    return running.residency.slots if running else ()


def names() -> list[str]:
    """The models that a node can ask for."""
    return [slot.call.name for slot in slots()]


def slot_of(name: str) -> Slot | None:
    return next((slot for slot in slots() if slot.call.name == name), None)


def unknown(name: str) -> str:
    """The sentence about a name that is not in the plan."""
    known = names()
    there = (
        f"there are: {', '.join(known[:20])}{', …' if len(known) > 20 else ''}"
        if known
        else "nothing is listed there"
    )
    return f"No model is called '{name}' in preload.yaml; {there}."
