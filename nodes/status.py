"""`ComfyPreload_Status`: report the state of the preload in a graph, and stop the graph if not ready."""

from __future__ import annotations

from typing import Any, ClassVar

from comfy_preload.core.state.snapshot import Snapshot, Status

from . import running

ALL = "(all)"


class AnyType(str):
    """The type `*`: never unequal, so ComfyUI connects it to anything (comfy_execution/validation.py)."""

    __slots__ = ()
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        return str.__eq__(self, other)

    def __ne__(self, _other: object) -> bool:
        return False


ANY = AnyType("*")


class NotReadyError(Exception):
    """The graph stops because the preload is not ready. ComfyUI shows the message at the node."""


class PreloadStatus:
    """Report the state; with `stop_if_not_ready`, fail the prompt if it is not ready."""

    DESCRIPTION = (
        "Reports whether the preload, or one model of it, is ready, and can stop the workflow if it is not."
    )
    CATEGORY = "utils"
    FUNCTION = "report"
    OUTPUT_NODE = True
    RETURN_TYPES = (ANY, "BOOLEAN", "STRING", "STRING")
    RETURN_NAMES = ("through", "ready", "status", "details")
    OUTPUT_TOOLTIPS = (
        "The value of the input 'through'.",
        "True if /ready is 200, or if the chosen model is loaded.",
        "One word: ready, degraded, failed, sleeping, … or the state of the chosen model.",
        "The problems, one line for each model.",
    )
    SEARCH_ALIASES: ClassVar[list[str]] = ["preload", "ready"]

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        stop = {
            "default": False,
            "tooltip": "Stop the workflow with an explanation if not ready.",
        }
        model = {"tooltip": "One model of preload.yaml, or all of them."}
        through = {"tooltip": "Optional pass-through. Nodes connected after it run once this check passes."}
        return {
            "required": {"stop_if_not_ready": ("BOOLEAN", stop)},
            "optional": {"model": ([ALL, *running.names()], model), "through": (ANY, through)},
        }

    @classmethod
    def VALIDATE_INPUTS(cls, model: str = ALL) -> bool | str:
        """Replace ComfyUI's own check, which reports only that the value is not in a list."""
        return True if model == ALL or running.slot_of(model) else running.unknown(model)

    @classmethod
    def IS_CHANGED(cls, model: str = ALL, **_others: Any) -> str:
        return repr(_verdict(model))

    def report(self, stop_if_not_ready: bool, model: str = ALL, through: Any = None) -> dict[str, Any]:  # noqa: FBT001 — ComfyUI's widget
        ready, status, details = _verdict(model)
        # A warm-up may run this graph before the preload is ready, after all models are loaded.
        if stop_if_not_ready and not ready and status != Status.WARMING.value:
            what = "The preload" if model == ALL else f"The preloaded model '{model}'"
            raise NotReadyError(f"{what} is not ready: {status}. {details}".strip())
        return {"ui": {"text": [status, details]}, "result": (through, ready, status, details)}


def _verdict(model: str) -> tuple[bool, str, str]:
    """Return whether it is ready, the status in one word, and the problems."""
    now = running.snapshot()
    if now is None:
        return False, "absent", "Comfy Preload is not running here."
    if model == ALL:
        return now.serves, now.status.value, _details(now)
    item = now.model(model)
    if item is None:
        return False, "unknown", running.unknown(model)
    return (
        item.state.loaded,
        item.state.value,
        "; ".join(p.text for p in item.problems),
    )


def _details(now: Snapshot) -> str:
    lines = [f"preload.yaml: {p.text}" for p in now.problems]
    lines += [
        f"{name}: {p.text}"
        for name, problems in {**now.failing(), **now.degraded()}.items()
        for p in problems
    ]
    lines += [f"{item.name}: released" for item in now.models if item.state.value == "released"]
    if now.fault:
        lines.append(now.fault.text)
    return "\n".join(lines)
