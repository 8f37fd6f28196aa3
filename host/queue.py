"""Jobs on ComfyUI's prompt queue.

A job is queued as a prompt with one node, whose function runs it. So it runs in the thread that
runs prompts, under the executor's inference mode, and never beside a prompt.
Source: `prompt_worker` in main.py, `PromptQueue` and `PromptExecutor` in execution.py.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Any

import execution

import nodes

JOB_NODE = "ComfyPreload_Job"
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


def submit(server: Any, job: Job) -> Future[None]:
    """Queue `job` behind the prompts that wait already. May be called from any thread.

    The future is done when the job has run, and holds what it raised, if anything.
    """
    nodes.NODE_CLASS_MAPPINGS.setdefault(JOB_NODE, JobNode)
    future: Future[None] = Future()
    prompt_id = str(uuid.uuid4())

    async def work() -> None:
        try:
            await job()
        except BaseException as error:  # noqa: BLE001 — SystemExit would end the only thread that runs prompts
            future.set_exception(error)
        else:
            future.set_result(None)
        finally:
            asyncio.run_coroutine_threadsafe(_forget(server.prompt_queue, prompt_id), server.loop)

    _jobs[prompt_id] = work
    number = server.number
    server.number = number + 1
    prompt = {"preload": {"class_type": JOB_NODE, "inputs": {"job": prompt_id}}}
    extra_data = {"create_time": int(time.time() * 1000)}
    item: tuple[Any, ...] = (number, prompt_id, prompt, extra_data, ["preload"])
    if hasattr(execution, "SENSITIVE_EXTRA_DATA_KEYS"):
        item = (*item, {})  # a sixth field since 0.3.67
    server.prompt_queue.put(item)
    return future


async def _forget(queue: Any, prompt_id: str) -> None:
    """Take the job out of the history, where users look for their images.

    The worker files it only after the job's function has returned, hence the waiting.
    """
    for _ in range(100):
        if queue.get_history(prompt_id=prompt_id):
            queue.delete_history_item(prompt_id)
            return
        await asyncio.sleep(0.1)
