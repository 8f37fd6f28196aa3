"""Prompts of our own, such as a warm-up, and what became of everybody's.

Source: `PromptQueue`, `PromptExecutor` and `validate_prompt` in execution.py.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import comfy.model_management
import execution

from comfy_preload.core.host import INTERRUPTED, Failed, Finished
from comfy_preload.core.planning.warm_up import SINK, SINK_INPUTS
from comfy_preload.host import queue, stand_ins
from comfy_preload.host.node_classes import node_classes
from comfy_preload.host.replacements import renewed

POLL = 0.05
MOST_TRIES = 10
"""How often a prompt is put back that vanished from the queue, or whose result vanished from the history."""
PATIENCE = 10.0
"""Seconds that an interrupted prompt gets to end."""


class SinkNode:
    """Takes whatever a workflow would save, and lets it go. Marked deprecated so that no menu shows it."""

    RETURN_TYPES = ()
    FUNCTION = "run"
    OUTPUT_NODE = True
    CATEGORY = "_for_testing"
    DEPRECATED = True
    DESCRIPTION = "Ends a warm-up of Comfy Preload. Not for use in graphs."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {}, "optional": {f"any{i}": ("*",) for i in range(SINK_INPUTS)}}

    @classmethod
    def VALIDATE_INPUTS(cls, input_types: Any) -> bool:  # noqa: ARG003 — that it is asked for turns off ComfyUI's own check of types
        return True

    def run(self, **_: Any) -> dict[str, Any]:
        return {}


async def run(
    server: Any, prompt: Mapping[str, Any], limit: float, workflow: Mapping[str, Any] | None = None
) -> Failed | float:
    """Run an API-format prompt before those that wait, and leave no trace in the history. On the event loop.

    Returns the seconds that it ran, or what went wrong. It is validated as `POST /prompt` does, but no part
    of it may be wrong.
    After `limit` seconds of running it is interrupted. Files that it shows, such as previews, are removed.
    `workflow`: the same in the editor's format, if there is one.
    """
    node_classes().setdefault(SINK, SinkNode)
    with stand_ins.filled(renewed(server, prompt)) as (whole, missing):
        if missing is not None:
            return missing
        prompt_id = str(uuid.uuid4())
        answer = await execution.validate_prompt(prompt_id, whole, None)
        valid, error, outputs, node_errors = answer[:4]
        if not valid or node_errors:
            return _refused(error, node_errors)
        began = time.time()
        taken = queue.Taken()
        entry = await _result(
            server,
            prompt_id,
            lambda: queue.put(server, prompt_id, whole, outputs, front=True, workflow=workflow, taken=taken),
            lambda: taken.seconds > limit,
        )
    if isinstance(entry, Failed):
        return entry
    stand_ins.remove_shown(entry.get("outputs"), began)
    status = entry.get("status") or {}
    if status.get("status_str") == "success":
        return _seconds(status.get("messages") or ())
    return next(_errors(status), Failed("", "", "it did not complete"))


async def _result(
    server: Any, prompt_id: str, put: Callable[[], None], overtime: Callable[[], bool]
) -> Mapping[str, Any] | Failed:
    """Queue the prompt, and take its entry out of the history.

    Users clear the queue or the history to lose their own prompts: ours is put back. `wipe_history` puts
    a new dictionary in the place of the old one (execution.py), so the history is looked up at each turn.
    """
    for _ in range(MOST_TRIES):
        put()
        absent = 0
        while absent < 10:
            if prompt_id in server.prompt_queue.history:
                entry: Mapping[str, Any] = server.prompt_queue.history[prompt_id]
                server.prompt_queue.delete_history_item(prompt_id)
                return entry
            if overtime():
                return await _cut_off(server, prompt_id)
            await asyncio.sleep(POLL)
            absent = 0 if queue.has(server, prompt_id) else absent + 1
    return Failed("", "", f"it was cleared from the queue or the history {MOST_TRIES} times")


async def _cut_off(server: Any, prompt_id: str) -> Failed:
    """Interrupt the prompt, if it is the one that runs. A node that does not react is not waited for."""
    if queue.is_running(server, prompt_id):
        comfy.model_management.interrupt_current_processing()
    for _ in range(round(PATIENCE / POLL)):
        if not queue.has(server, prompt_id):
            break
        await asyncio.sleep(POLL)
    # its entry is made only when its last node has returned, which may be long after
    asyncio.get_running_loop().create_task(queue.forget(server, prompt_id))
    stuck = queue.has(server, prompt_id)
    return Failed("", "", "it took too long", overtime=True, stuck=stuck)


def _refused(error: Any, node_errors: Any) -> Failed:
    for node, found in (node_errors or {}).items():
        first = next(iter(found.get("errors", ())), {})
        reason = ": ".join(str(first[key]) for key in ("message", "details") if first.get(key))
        return Failed(str(node), str(found.get("class_type", "")), reason)
    found = error if isinstance(error, dict) else {"message": error}
    return Failed("", "", ": ".join(str(found[key]) for key in ("message", "details") if found.get(key)))


def _errors(status: Mapping[str, Any]) -> Iterator[Failed]:
    for event, data in status.get("messages") or ():
        if event == "execution_error":
            node, kind = str(data.get("node_id", "")), str(data.get("node_type", ""))
            yield Failed(
                node,
                kind,
                str(data.get("exception_message", "")).strip(),
                str(data.get("exception_type", "")),
            )
        elif event == "execution_interrupted":
            yield Failed(str(data.get("node_id", "")), str(data.get("node_type", "")), INTERRUPTED)


def _times(messages: Sequence[tuple[str, Mapping[str, Any]]]) -> list[int]:
    """Return when each message was made, in milliseconds (`PromptExecutor.add_message`, execution.py)."""
    return [data["timestamp"] for _, data in messages if "timestamp" in data]


def _seconds(messages: Sequence[tuple[str, Mapping[str, Any]]]) -> float:
    """Return for how long a prompt ran, from `execution_start` to how it ended; 0 without times."""
    times = _times(messages)
    return max(0.0, (times[-1] - times[0]) / 1000) if times else 0.0


class History:
    """What ended since the last look."""

    def __init__(self, server: Any) -> None:
        self._queue = server.prompt_queue
        self._seen: str | None = None

    def new(self) -> tuple[tuple[Failed, ...], tuple[Finished, ...]]:
        """Return what raised, and how long users' prompts took.

        Reads the history without the queue's lock.
        """
        ids = list(self._queue.history)
        since = ids.index(self._seen) + 1 if self._seen in ids else 0
        if ids:
            self._seen = ids[-1]
        entries = [self._queue.history.get(prompt_id) or {} for prompt_id in ids[since:]]
        failed = tuple(one for entry in entries for one in _errors(entry.get("status") or {}))
        return failed, tuple(
            one
            for prompt_id, entry in zip(ids[since:], entries, strict=True)
            if (one := _finished(prompt_id, entry))
        )


def running(server: Any) -> str:
    """Return the id of the user's prompt that runs, or "" if there is none or it is one of ours.

    Takes no lock.
    """
    for item in list(server.prompt_queue.currently_running.values()):
        if not _is_ours(item[2]):
            return str(item[1])
    return ""


def _is_ours(graph: Mapping[str, Any]) -> bool:
    return any(node.get("class_type") in (queue.JOB_NODE, SINK) for node in graph.values())


def _finished(prompt_id: str, entry: Mapping[str, Any]) -> Finished | None:
    """Return how long a user's prompt took; None for one of ours, or one without times.

    `POST /prompt` notes when it came (`create_time`, server.py; 0.3.67 and later).
    """
    prompt: tuple[Any, ...] = tuple(entry.get("prompt") or (0, "", {}, {}))
    graph = prompt[2]
    if _is_ours(graph):
        return None
    messages = (entry.get("status") or {}).get("messages") or ()
    times = _times(messages)
    if not times:
        return None
    created = prompt[3].get("create_time")
    waited = max(0.0, (times[0] - created) / 1000) if isinstance(created, int) else None
    cached = [
        graph[node]
        for event, data in messages
        if event == "execution_cached"
        for node in data.get("nodes", ())
        if node in graph
    ]
    return Finished(
        id=prompt_id,
        ran=_seconds(messages),
        waited=waited,
        worked=(entry.get("status") or {}).get("status_str") == "success",
        cached=tuple((str(node.get("class_type", "")), node.get("inputs") or {}) for node in cached),
        graph=graph,
    )
