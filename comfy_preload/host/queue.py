"""Jobs on ComfyUI's prompt queue.

A job is queued as a prompt with one node, whose function runs it. So it runs in the thread that
runs prompts, under the executor's inference mode, and never beside a prompt.
Source: `prompt_worker` in main.py, `PromptQueue` and `PromptExecutor` in execution.py.
"""

from __future__ import annotations

import asyncio
import threading
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

import execution

from comfy_preload.host.node_classes import node_classes

JOB_NODE = "ComfyPreload_Job"
CLIENT = "comfy-preload"
"""The client that our prompts are sent by.

No socket has that name, so no open editor shows their progress.
"""
Job = Callable[[], Awaitable[None]]

_jobs: dict[str, Job] = {}


class JobNode:
    """The node that runs a job. Marked deprecated so that no menu shows it."""

    RETURN_TYPES = ()
    FUNCTION = "run"
    OUTPUT_NODE = True
    CATEGORY = "_for_testing"
    DEPRECATED = True
    DESCRIPTION = "Runs a job of Comfy Preload. Not for use in graphs."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"job": ("STRING", {})}}

    @classmethod
    def IS_CHANGED(cls, **_: Any) -> float:
        return float("nan")  # never equal to itself: never served from the executor's cache

    async def run(self, job: str) -> dict[str, Any]:
        work = _jobs.pop(job, None)
        if work is None:
            raise ValueError("this node is queued by Comfy Preload itself, not by a graph")
        await work()
        return {}


def submit(server: Any, job: Job, *, front: bool = False) -> Future[None]:
    """Queue `job` behind the prompts that wait already, or before them. May be called from any thread.

    The future is done when the job has run, and holds what it raised, if anything. A user who clears
    the queue clears his prompts, not the job: it is put back.
    """
    node_classes().setdefault(JOB_NODE, JobNode)
    future: Future[None] = Future()
    prompt_id = str(uuid.uuid4())
    begun = threading.Event()

    async def work() -> None:
        begun.set()
        try:
            await job()
        except Exception as error:  # noqa: BLE001 — raised where it is waited for
            future.set_exception(error)
        except BaseException as error:  # noqa: BLE001 — SystemExit would end the only thread that runs prompts, or the event loop
            future.set_exception(RuntimeError(f"{type(error).__name__}: {error}"))
        else:
            future.set_result(None)
        finally:
            asyncio.run_coroutine_threadsafe(forget(server, prompt_id), server.loop)

    _jobs[prompt_id] = work
    prompt = {"preload": {"class_type": JOB_NODE, "inputs": {"job": prompt_id}}}
    put(server, prompt_id, prompt, ["preload"], front=front)
    asyncio.run_coroutine_threadsafe(_keep(server, prompt_id, prompt, begun), server.loop)
    return future


class Taken(dict[str, Any]):
    """The extra data of a prompt.

    The worker copies it as it takes the prompt from the queue (`PromptQueue.get`).
    """

    at: float | None = None
    """When that was."""

    def __deepcopy__(self, _: Any) -> dict[str, Any]:
        self.at = time.monotonic()
        return dict(self)

    @property
    def seconds(self) -> float:
        """For how long it has run; 0 while it waits."""
        return 0.0 if self.at is None else time.monotonic() - self.at


def put(
    server: Any,
    prompt_id: str,
    prompt: Mapping[str, Any],
    outputs: Sequence[str],
    *,
    front: bool = False,
    workflow: Mapping[str, Any] | None = None,
    taken: Taken | None = None,
) -> None:
    """Queue a prompt as `POST /prompt` does (server.py).

    Without a client its progress and previews would go to every open editor (`send_sync` with None, 0.3.75
    and 0.33.0). `workflow`: in the editor's format, for nodes that ask for `extra_pnginfo`. `taken`: notes
    when it begins to run.
    """
    number = server.number
    server.number = number + 1
    extra_data: dict[str, Any] = Taken() if taken is None else taken
    extra_data |= {"create_time": int(time.time() * 1000), "client_id": CLIENT}
    if workflow is not None:
        extra_data["extra_pnginfo"] = {"workflow": workflow}
    item: tuple[Any, ...] = (-number if front else number, prompt_id, prompt, extra_data, list(outputs))
    if hasattr(execution, "SENSITIVE_EXTRA_DATA_KEYS"):
        item = (*item, {})  # a sixth field since 0.3.67
    server.prompt_queue.put(item)


def items(server: Any) -> list[tuple[Any, ...]]:
    """What runs and what waits. Copies without the queue's lock, which the worker may hold for long."""
    queue = server.prompt_queue
    return [*list(queue.currently_running.values()), *list(queue.queue)]


def worker() -> threading.Thread | None:
    """Return the thread that runs prompts: its target is `prompt_worker`, which Python notes in its name.

    `start_comfyui` starts it before the web application (main.py 0.3.75 and 0.33.0).
    """
    return next((t for t in threading.enumerate() if t.name.endswith("(prompt_worker)")), None)


def has(server: Any, prompt_id: str) -> bool:
    """Return whether that prompt runs or waits."""
    return any(item[1] == prompt_id for item in items(server))


def is_running(server: Any, prompt_id: str) -> bool:
    """Return whether that is the prompt that runs now."""
    return any(item[1] == prompt_id for item in list(server.prompt_queue.currently_running.values()))


def unfinished(server: Any) -> tuple[str, ...]:
    """Return the ids of the prompts that run or wait, our jobs left out."""
    return tuple(
        str(item[1])
        for item in items(server)
        if not any(node.get("class_type") == JOB_NODE for node in item[2].values())
    )


def empty_cache(server: Any) -> None:
    """Have the executor let go of every node's output once the running prompt is over; models stay loaded.

    For what was released to be freed, under every cache flag: only the classic cache is emptied by another
    prompt (`--cache-lru`, `--cache-ram` and the default of 0.33.0 keep outputs). `prompt_worker`, main.py:
    0.3.75 and 0.33.0.
    """
    server.prompt_queue.set_flag("unload_models", data=False)
    server.prompt_queue.set_flag("free_memory", data=True)


async def emptied(server: Any) -> None:
    """Empty the executor's cache, and wait until the worker does it: before it takes the next prompt.

    Setting a flag wakes a worker that waits (`PromptQueue.set_flag`, execution.py 0.3.75 and 0.33.0).
    """
    empty_cache(server)
    while "free_memory" in server.prompt_queue.flags:  # noqa: ASYNC110 — the worker is a thread
        await asyncio.sleep(0.01)


async def forget(server: Any, prompt_id: str) -> None:
    """Take a prompt of ours out of the history, where users look for their images.

    The worker files it only after its last node has returned, hence the waiting.
    """
    queue = server.prompt_queue
    for _ in range(100):
        if prompt_id in queue.history:
            queue.delete_history_item(prompt_id)
            return
        await asyncio.sleep(0.1)


async def _keep(server: Any, prompt_id: str, prompt: Mapping[str, Any], begun: threading.Event) -> None:
    """Put the job back if it is in the queue no more though it never began.

    Asked twice: between the queue and the list of what runs it is in neither for a moment.
    """
    absent = 0
    while not begun.is_set():
        await asyncio.sleep(0.5)
        absent = 0 if any(item[1] == prompt_id for item in items(server)) else absent + 1
        if absent == 2 and not begun.is_set():
            put(server, prompt_id, prompt, ["preload"])
            absent = 0
