"""What each prompt found at the intercepted loader nodes, and why it missed: the last hundred prompts."""

from __future__ import annotations

import json
import statistics
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from comfy_preload.core.host import Finished
from comfy_preload.core.planning.call import LoaderCall
from comfy_preload.core.text import without_paths
from comfy_preload.core.workflow.likeness import likeness

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
    held: int | None = None
    """Bytes of the model that an accelerator held at that moment; None: not known."""
    uploaded: int | None = None
    """Bytes of it that were brought there until the end of the prompt was noticed; None: not known."""


@dataclass(frozen=True)
class PromptUse:
    """One prompt of a user."""

    id: str
    uses: tuple[LoaderUse, ...] = ()
    ran: float | None = None
    """Seconds; None while it runs."""
    waited: float | None = None
    workflow: str | None = None
    """The workflow of the settings with the same nodes and links."""


@dataclass(frozen=True)
class Served:
    """What a model has done since it was loaded, or a workflow since it was planned."""

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


@dataclass(frozen=True)
class WorkflowUse:
    """What a workflow of the settings has served."""

    name: str
    likeness: str
    """Equal for prompts of this workflow (`core/workflow/likeness.py`)."""
    served: Served = NOT_SERVED
    last_miss: str | None = None
    """Why a loader last had to run in one of its prompts."""


class Evidence:
    """The prompts. Written by the prompt worker and the event loop; readers take no lock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.prompts: tuple[PromptUse, ...] = ()
        self.workflows: tuple[WorkflowUse, ...] = ()
        self._idle: Mapping[str, int] = {}
        """Bytes of each model that an accelerator held when last no prompt ran."""

    def plan(self, workflows: Iterable[tuple[str, str]]) -> None:
        """Adopt the workflows of a new plan: name and likeness. One that is unchanged keeps its figures."""
        known = {(one.name, one.likeness): one for one in self.workflows}
        self.workflows = tuple(known.get(one) or WorkflowUse(*one) for one in workflows)

    def rest(self, held: Mapping[str, int]) -> None:
        """Note how many bytes of each model an accelerator holds while no prompt runs."""
        self._idle = held

    def note(self, prompt_id: str, use: LoaderUse) -> None:
        """Add a loader call to a prompt."""
        with self._lock:
            now = self._get(prompt_id)
            self._put(replace(now, uses=(*now.uses, use)[:MAX_USES]))

    def finish(
        self, over: Finished, cached: Iterable[LoaderUse], held: Mapping[str, int], *, alone: bool = True
    ) -> PromptUse:
        """Complete a prompt that is over, and return it.

        Args:
            over: The prompt.
            cached: Its loader calls that ComfyUI's own cache answered.
            held: Bytes of each loaded model that an accelerator holds now.
            alone: No other prompt has run since the last `rest`.
        """
        idle = self._idle if alone else {}
        mine = [one for one in self.workflows if one.likeness == likeness(over.graph)]
        with self._lock:
            now = self._get(over.id)
            answered = [replace(use, held=idle.get(use.model or "")) for use in cached]
            uses = tuple(_with_upload(use, held) for use in (*now.uses, *answered))[:MAX_USES]
            name = mine[0].name if mine else None
            done = replace(now, uses=uses, ran=over.ran, waited=over.waited, workflow=name)
            self._put(done)
        for one in mine:
            self._serve(one, done, worked=over.worked)
        return done

    def _serve(self, workflow: WorkflowUse, done: PromptUse, *, worked: bool) -> None:
        served = workflow.served.add(done.ran or 0.0) if worked else workflow.served
        missed = next((use for use in done.uses if use.result == "miss"), None)
        miss = f"{missed.loader}: {missed.reason}: {missed.message}" if missed else workflow.last_miss
        new = replace(workflow, served=served, last_miss=miss)
        self.workflows = tuple(new if one is workflow else one for one in self.workflows)

    def _get(self, prompt_id: str) -> PromptUse:
        return next((one for one in self.prompts if one.id == prompt_id), PromptUse(prompt_id))

    def _put(self, prompt: PromptUse) -> None:
        others = (one for one in self.prompts if one.id != prompt.id)
        self.prompts = (*others, prompt)[-MAX_PROMPTS:]


def _with_upload(use: LoaderUse, held: Mapping[str, int]) -> LoaderUse:
    now = held.get(use.model or "")
    known = use.held is not None and now is not None and use.reason not in ("input", "not_planned")
    return replace(use, uploaded=max(0, (now or 0) - (use.held or 0)) if known else None)


def nearest_call(
    loader: str, arguments: Mapping[str, Any], planned: Iterable[LoaderCall]
) -> tuple[str | None, Reason, str]:
    """Return the planned call of the same node class with the fewest other arguments, and what differs.

    Of two with as many, that of the same files. The reason is `input` if only options differ, `not_planned`
    if the files do, or if there is no such call.
    """
    given = {name: _text(value) for name, value in arguments.items()}
    best: tuple[LoaderCall, dict[str, Any], list[str], tuple[int, bool]] | None = None
    for call in planned:
        if call.target is None or not call.target.key:
            continue
        expected = json.loads(call.target.key.removeprefix(f"{call.target.spec.class_id} "))
        names = {**given, **expected}
        other = [name for name in names if given.get(name) != _text(expected.get(name))]
        files = {_text(file.name) for file in call.files}
        distance = len(other), any(_text(expected.get(name)) in files for name in other)
        if best is None or distance < best[3]:
            best = call, expected, other, distance
    if best is None:
        return None, "not_planned", f"no model of the plan is loaded by {loader}"
    call, expected, other, (_, other_files) = best
    message = "; ".join(
        f"{name} is {_shown(arguments.get(name))}, planned {_shown(expected.get(name))}" for name in other
    )
    if other_files:
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
