"""The way from a node in a graph to the preload that runs in this process, if there is one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..core.residency import Slot
from ..core.snapshot import Snapshot

if TYPE_CHECKING:
    from ..preload import Preloader
    from ..startup import Plugin


def preloader() -> Preloader | None:
    """None while there is nothing to preload."""
    plugin = _plugin()
    return plugin.preloader if plugin else None


def snapshot() -> Snapshot | None:
    """What there is to say now; None where ComfyUI runs without a server."""
    plugin = _plugin()
    return plugin.snapshot() if plugin else None


def slots() -> Sequence[Slot]:
    """What is in the plan, in its order."""
    running = preloader()
    return running.residency.slots if running else ()


def names() -> list[str]:
    """The models that a node can ask for."""
    return [slot.call.name for slot in slots()]


def slot_of(name: str) -> Slot | None:
    return next((slot for slot in slots() if slot.call.name == name), None)


def unknown(name: str) -> str:
    """What to say of a name that is not in the plan."""
    known = names()
    there = f"there are: {', '.join(known[:20])}{', …' if len(known) > 20 else ''}" if known else "nothing is listed there"
    return f"No model is called '{name}' in preload.yaml; {there}."


def _plugin() -> Plugin | None:
    from .. import startup  # it imports us first

    return startup.current()
