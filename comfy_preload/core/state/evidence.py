"""What each prompt found at the intercepted loader nodes, and why it missed: the last hundred prompts."""

from __future__ import annotations

import json
import statistics
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from comfy_preload.core.planning.plan import LoaderCall
from comfy_preload.core.text import without_paths

MAX_PROMPTS = 100
"""At most this many prompts are kept."""
MAX_USES = 100
"""At most this many loader calls of a prompt are kept."""
MAX_STEADY = 100
"""At most this many durations of a model's prompts are kept."""
MAX_VALUE = 80
"""At most this many characters of an input's value are repeated."""

Reason = Literal["input", "file", "not_planned", "not_loaded", "changed"]


@dataclass(frozen=True)
class LoaderUse:
    """One loader node in one prompt."""

    loader: str
    model: str | None
    """The planned model; after a miss by input the one that differs least; None if it is not planned."""
    result: Literal["hit", "miss", "cached"]
    """`cached`: ComfyUI's own cache answered, the node was not called."""
    reason: Reason | None = None
    message: str | None = None


@dataclass(frozen=True)
class PromptUse:
    """One prompt of a user."""

    id: str
    uses: tuple[LoaderUse, ...] = ()
    ran: float | None = None
    """Seconds; None while it runs."""
    waited: float | None = None


@dataclass(frozen=True)
class Served:
    """What a model has done since it was loaded."""

    first: float | None = None
    """Seconds of the first prompt that used it."""
    steady: tuple[float, ...] = ()
    """Seconds of the later ones, oldest first."""
    prompts: int = 0

    def add(self, seconds: float) -> Served:
        """Return it with one more prompt."""
        if self.first is None:
            return Served(first=seconds, prompts=1)
        return replace(self, steady=(*self.steady, seconds)[-MAX_STEADY:], prompts=self.prompts + 1)

    @property
    def last(self) -> float | None:
        """Return the seconds of the last prompt that used it."""
        return self.steady[-1] if self.steady else self.first

    @property
    def median(self) -> float | None:
        """Return the median of the later prompts."""
        return statistics.median(self.steady) if self.steady else None


NOT_SERVED = Served()


class Evidence:
    """The prompts. Written by the prompt worker and the event loop; readers take no lock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.prompts: tuple[PromptUse, ...] = ()

    def note(self, prompt_id: str, use: LoaderUse) -> None:
        """Add a loader call to a prompt."""
        with self._lock:
            now = self._get(prompt_id)
            self._put(replace(now, uses=(*now.uses, use)[:MAX_USES]))

    def finish(
        self, prompt_id: str, cached: Iterable[LoaderUse], ran: float, waited: float | None
    ) -> PromptUse:
        """Complete a prompt that is over, and return it."""
        with self._lock:
            now = self._get(prompt_id)
            uses = (*now.uses, *cached)[:MAX_USES]
            done = replace(now, uses=uses, ran=ran, waited=waited)
            self._put(done)
            return done

    def _get(self, prompt_id: str) -> PromptUse:
        return next((one for one in self.prompts if one.id == prompt_id), PromptUse(prompt_id))

    def _put(self, prompt: PromptUse) -> None:
        others = (one for one in self.prompts if one.id != prompt.id)
        self.prompts = (*others, prompt)[-MAX_PROMPTS:]


def nearest_call(
    loader: str, arguments: Mapping[str, Any], planned: Iterable[LoaderCall]
) -> tuple[str | None, Reason, str]:
    """Return the planned call of the same node class with the fewest other arguments, and what differs.

    The reason is `input` if only options differ, `not_planned` if the files do, or if there is no such call.
    """
    given = {name: _text(value) for name, value in arguments.items()}
    best: tuple[LoaderCall, dict[str, Any], list[str]] | None = None
    for call in planned:
        if call.target is None or not call.target.key:
            continue
        expected = json.loads(call.target.key.removeprefix(f"{call.target.spec.class_id} "))
        names = {**given, **expected}
        other = [name for name in names if given.get(name) != _text(expected.get(name))]
        if best is None or len(other) < len(best[2]):
            best = call, expected, other
    if best is None:
        return None, "not_planned", f"no model of the plan is loaded by {loader}"
    call, expected, other = best
    message = "; ".join(
        f"{name} is {_shown(arguments.get(name))}, planned {_shown(expected.get(name))}" for name in other
    )
    files = {_text(file.name) for file in call.files}
    if any(_text(expected.get(name)) in files for name in other):
        return None, "not_planned", message
    return call.name, "input", message


def _text(value: Any) -> str:
    """Return a text to compare: values such as tensors cannot be compared themselves."""
    try:
        return json.dumps(value, sort_keys=True)
    except (TypeError, ValueError):
        return f"a {type(value).__name__}"


def _shown(value: Any) -> str:
    return without_paths((value if isinstance(value, str) else _text(value))[:MAX_VALUE])
