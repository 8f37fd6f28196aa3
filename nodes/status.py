"""`ComfyPreload_Status`: how the preload stands, inside a graph; and a way to stop there instead of failing later."""

from __future__ import annotations

from typing import Any, ClassVar

from comfy_preload.core.state.snapshot import Snapshot, Status

from . import running

ALL = "(all)"


class AnyType(str):
    """The type `*`, which ComfyUI lets connect to anything because it is never unequal (comfy_execution/validation.py)."""

    __slots__ = ()
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        return str.__eq__(self, other)

    def __ne__(self, _other: object) -> bool:
        return False


ANY = AnyType("*")


class NotReadyError(Exception):
    """A graph was told to stop if the preload is not ready. ComfyUI shows the sentence at the node."""


class PreloadStatus:
    """Reports the state; with `stop_if_not_ready` it ends the prompt."""

    DESCRIPTION = (
        "Says whether the preload, or one model of it, is ready, and can stop the workflow if it is not."
    )
    CATEGORY = "utils"
    FUNCTION = "report"
    OUTPUT_NODE = True
    RETURN_TYPES = (ANY, "BOOLEAN", "STRING", "STRING")
    RETURN_NAMES = ("through", "ready", "status", "details")
    OUTPUT_TOOLTIPS = (
        "What came in at 'through'.",
        "True if traffic is wanted, or if the chosen model is loaded.",
        "In one word: ready, degraded, failed, sleeping, … or the state of the chosen model.",
        "What is wrong, one line for each model.",
    )
    SEARCH_ALIASES: ClassVar[list[str]] = ["preload", "ready"]

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        stop = {
            "default": False,
            "tooltip": "End the prompt here, with a message that says why, if it is not ready.",
        }
        model = {"tooltip": "One model of preload.yaml, or all of them."}
        through = {"tooltip": "Put any wire through: what comes after it waits for this check."}
        return {
            "required": {"stop_if_not_ready": ("BOOLEAN", stop)},
            "optional": {"model": ([ALL, *running.names()], model), "through": (ANY, through)},
        }

    @classmethod
    def VALIDATE_INPUTS(cls, model: str = ALL) -> bool | str:
        """Instead of ComfyUI's own check, which only says that the value is not in a list."""
        return True if model == ALL or running.slot_of(model) else running.unknown(model)

    @classmethod
    def IS_CHANGED(cls, model: str = ALL, **_others: Any) -> str:
        return repr(_verdict(model))

    def report(self, stop_if_not_ready: bool, model: str = ALL, through: Any = None) -> dict[str, Any]:  # noqa: FBT001 — ComfyUI's widget
        ready, status, details = _verdict(model)
        # A warm-up runs this very graph before the preload is ready, when all is loaded.
        if stop_if_not_ready and not ready and status != Status.WARMING.value:
            what = "The preload" if model == ALL else f"The preloaded model '{model}'"
            raise NotReadyError(f"{what} is not ready: {status}. {details}".strip())
        return {"ui": {"text": [status, details]}, "result": (through, ready, status, details)}


def _verdict(model: str) -> tuple[bool, str, str]:
    """Ready or not, in a word, and why."""
    now = running.snapshot()
    if now is None:
        return False, "absent", "Comfy Preload does not run here."
    if model == ALL:
        return now.serves, now.status.value, _details(now)
    item = now.model(model)
    if item is None:
        return False, "unknown", running.unknown(model)
    return (
        item.state.loaded,
        item.state.value,
        "; ".join(f"[{p.code}] {p.message}. {p.hint}" for p in item.problems),
    )


def _details(now: Snapshot) -> str:
    lines = [f"preload.yaml: [{p.code}] {p.message}. {p.hint}" for p in now.problems]
    lines += [
        f"{name}: [{p.code}] {p.message}. {p.hint}"
        for name, problems in now.failing().items()
        for p in problems
    ]
    lines += [f"{item.name}: released" for item in now.models if item.state.value == "released"]
    if now.fault:
        lines.append(f"[{now.fault.code}] {now.fault.message}. {now.fault.hint}")
    return "\n".join(lines)
