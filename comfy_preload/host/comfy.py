"""The `Host` protocol answered by the ComfyUI that runs here: one place to see all we ask of it."""

from __future__ import annotations

import platform
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from threading import Thread
from typing import Any

import torch

from comfy_preload.core.host import (
    Failed,
    Finished,
    GraphNode,
    HostFacts,
    ModelFile,
    Outputs,
    Placement,
    Watcher,
)
from comfy_preload.core.node_types import LoaderSpec, NodeTypes
from comfy_preload.core.version import plugin_version
from comfy_preload.host import catalogue, custom_nodes, devices, files, loaders, prompts, pushing, queue
from comfy_preload.host.intercept import Watch
from comfy_preload.host.node_classes import node_classes
from comfy_preload.host.node_types import ComfyNodeTypes


class ComfyHost:
    """Stateless but for the server it queues jobs on, and which errors of prompts it has logged already."""

    def __init__(self, server: Any) -> None:
        self._server = server
        self._history = prompts.History(server)

    def changed(self) -> None:
        """`send_sync` hands over to the event loop; web/poller.js listens."""
        self._server.send_sync("comfy_preload.changed", {})

    def facts(self) -> HostFacts:
        try:
            from comfyui_version import __version__ as version
        except ImportError:
            version = "unknown"
        device = devices.device_name()
        return HostFacts(version, platform.python_version(), torch.__version__, device, plugin_version())

    def loader_names(self) -> Collection[str]:
        return node_classes().keys()

    def loader(self, name: str) -> LoaderSpec | None:
        return catalogue.spec_of(name)

    def files(self, spec: LoaderSpec, inputs: Mapping[str, Any]) -> tuple[ModelFile, ...]:
        return catalogue.files_of(spec, inputs)

    def searched(self, folder: str) -> Collection[str]:
        return files.searched(folder)

    def arguments(self, spec: LoaderSpec, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        return loaders.arguments(spec, inputs)

    def changes(self, spec: LoaderSpec, inputs: Mapping[str, Any], node: GraphNode) -> str | None:
        return loaders.changes(spec, inputs, node)

    def failed_imports(self) -> Collection[str]:
        return custom_nodes.failed_imports()

    def submit(self, job: Callable[[], Awaitable[None]], *, front: bool = False) -> Future[None]:
        return queue.submit(self._server, job, front=front)

    async def run(
        self,
        prompt: Mapping[str, Any],
        limit: float,
        workflow: Mapping[str, Any] | None = None,
        *,
        fresh: bool = False,
    ) -> Failed | float:
        if fresh:
            await queue.emptied(self._server)
        return await prompts.run(self._server, prompt, limit, workflow)

    def news(self) -> tuple[tuple[Failed, ...], tuple[Finished, ...]]:
        return self._history.new()

    def queue_remaining(self) -> int:
        return len(queue.unfinished(self._server))

    def unfinished(self) -> tuple[str, ...]:
        return queue.unfinished(self._server)

    def running_prompt(self) -> str:
        return prompts.running(self._server)

    def prompt_worker(self) -> Thread | None:
        return queue.worker()

    def is_busy(self) -> bool:
        return bool(queue.items(self._server))

    async def call(self, spec: LoaderSpec, inputs: Mapping[str, Any], node: GraphNode) -> Outputs:
        return await loaders.call(spec, inputs, node)

    def watch(self, spec: LoaderSpec, watcher: Watcher) -> Callable[[], None]:
        return Watch(spec, watcher).remove

    def values(self, outputs: Outputs) -> tuple[Any, ...]:
        return devices.values(outputs)

    def usable(self, outputs: Outputs) -> str:
        return loaders.usable(outputs)

    def push(
        self, pushed: Sequence[Outputs], beside: Collection[Outputs] = ()
    ) -> list[tuple[BaseException, ...]]:
        return pushing.push(pushed, beside)

    def repair(self, outputs: Outputs) -> None:
        devices.repair(outputs)

    def relieve(self) -> None:
        devices.relieve()

    def collect(self) -> None:
        devices.collect()

    def empty_cache(self) -> None:
        queue.empty_cache(self._server)

    def was_cancelled(self) -> bool:
        return devices.was_cancelled()

    def maps_files(self) -> bool:
        return devices.maps_files()

    def loads_pickles_safely(self) -> bool:
        return loaders.pickles_are_safe()

    def free_device_memory(self) -> int:
        return devices.free_device_memory()

    def is_out_of_memory(self, error: BaseException) -> bool:
        return devices.is_out_of_memory(error)

    def is_interrupt(self, error: BaseException) -> bool:
        return devices.is_interrupt(error)

    def node_types(self) -> NodeTypes:
        return ComfyNodeTypes()

    def user_folder(self) -> Path:
        return files.user_folder()

    def dtypes(self, outputs: Outputs) -> tuple[str, ...]:
        return devices.dtypes(outputs)

    def placement(self, outputs: Outputs) -> Placement:
        return devices.placement(outputs)
