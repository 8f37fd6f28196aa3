"""Give the nodes access to the preload of this process, if there is one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from comfy_preload.core.state.slot import Slot
from comfy_preload.core.state.snapshot import Snapshot

if TYPE_CHECKING:
    from comfy_preload.boot.plugin import Plugin
    from comfy_preload.preloader import Preloader

_plugin: Plugin | None = None


def attach(plugin: Plugin | None) -> None:
    """Set the plugin that the nodes use.

    `__init__.py` calls this once: ComfyUI creates nodes without arguments.
    """
    global _plugin  # noqa: PLW0603 — see above
    _plugin = plugin


def preloader() -> Preloader | None:
    """Return the preloader, or None while there is nothing to preload."""
    return _plugin.preloader if _plugin else None


def snapshot() -> Snapshot | None:
    """Return the current state, or None if ComfyUI runs without a server."""
    return _plugin.snapshot() if _plugin else None


def slots() -> Sequence[Slot]:
    """Return the models of the plan, in its order."""
    running = preloader()
    return running.residency.slots if running else ()


def names() -> list[str]:
    """Return the names of the models that a node can use."""
    return [slot.call.name for slot in slots()]


def slot_of(name: str) -> Slot | None:
    return next((slot for slot in slots() if slot.call.name == name), None)


def unknown(name: str) -> str:
    """Return a message about a name that is not in the plan."""
    known = names()
    there = (
        f"available: {', '.join(known[:20])}{', …' if len(known) > 20 else ''}"
        if known
        else "nothing is listed there"
    )
    return f"No model in preload.yaml has the name '{name}'; {there}."
