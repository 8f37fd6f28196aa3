"""A residency with one planned call, for tests of what it hands out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from comfy_preload.core.planning.call import Target
from comfy_preload.core.state.residency import Residency
from comfy_preload.core.state.slot import Slot

MODEL = ("model", "clip", "vae")


@dataclass
class Stand:
    """A residency with one planned call, as the loader node's watcher sees it."""

    residency: Residency
    slot: Slot
    repaired: list[Any] = field(default_factory=list)

    @property
    def target(self) -> Target:
        assert self.slot.call.target
        return self.slot.call.target

    def recall(self, changes: str = "", **other: Any) -> Any:
        return self.residency.recall(self.target.spec, {**self.target.inputs, **other}, changes)

    def load(self, outputs: Any = MODEL, changes: str = "", **other: Any) -> None:
        """What a watched node does when nothing is kept for it."""
        assert self.recall(changes, **other) is None
        self.residency.keep(self.target.spec, {**self.target.inputs, **other}, changes, outputs)
