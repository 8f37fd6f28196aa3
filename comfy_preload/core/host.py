"""The few questions and acts this plugin needs from ComfyUI, and the facts it gets back.

`host/` answers them for a real ComfyUI; nothing else in the plugin imports it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import Any, Protocol

from comfy_preload.core.node_types import LoaderSpec, NodeTypes

Outputs = Any
"""What a loader node returned, exactly as returned. Opaque outside `host/`."""


@dataclass(frozen=True)
class GraphNode:
    """The node of a graph that a call stands for: what the executor passes on as hidden inputs."""

    id: str
    prompt: Mapping[str, Any]
    """The whole graph, in API format. Never changed."""
    workflow: Mapping[str, Any] | None = None
    """The same graph as the editor saved it, where the file holds that: `extra_pnginfo["workflow"]`."""


@dataclass(frozen=True)
class ModelFile:
    """A file that an input names. `path` is for opening it, never for showing."""

    name: str
    folder: str
    path: Path


@dataclass(frozen=True)
class Placement:
    """Where the weights of one loader call are, at the moment of the question."""

    bytes: int
    """All weights, in the dtype they have in memory; 0 if ComfyUI does not manage them."""
    by_device: Mapping[str, int]
    """Bytes that are on each device where these weights belong, the CPU included if it is one. With dynamic
    VRAM in whole pages of 32 MB, so it can be more than `bytes`."""
    dynamic: bool
    """True on hosts with dynamic VRAM: only a forward pass brings weights to the device."""
    stays: bool = True
    """False if ComfyUI takes all weights off after every prompt: they are there only while one runs."""

    @property
    def bytes_on_device(self) -> int:
        return sum(self.by_device.values())

    @property
    def device(self) -> str:
        """Where they belong, for reading: `cuda:0`, `cpu+cuda:0`; empty if nowhere."""
        return "+".join(sorted(self.by_device))

    @property
    def bytes_off_cpu(self) -> int:
        """What an accelerator holds of them."""
        return sum(held for device, held in self.by_device.items() if device != "cpu")


def all_there(held: int, total: int) -> bool:
    """Return whether a device that holds `held` of `total` bytes has all weights.

    ComfyUI does not count some small buffers: 1 % may be missing.
    """
    return held >= 0.99 * total


NOWHERE = Placement(bytes=0, by_device={}, dynamic=False)


@dataclass(frozen=True)
class HostFacts:
    """What is running here, for `/preload` and the log."""

    comfyui: str
    python: str
    torch: str
    device: str
    plugin: str = "unknown"
    """The version of this plugin."""


INTERRUPTED = "it was interrupted"
"""The reason of a prompt that someone cancelled."""


@dataclass(frozen=True)
class Failed:
    """A prompt that did not complete: at which node, and what it raised. Raw text: may hold paths."""

    node: str
    node_type: str
    reason: str
    error: str = ""
    """The exception's class, with its module."""
    overtime: bool = False
    """It was interrupted because it took too long."""
    stuck: bool = False
    """And it does not end all the same: what is queued behind it waits."""
    missing: str = ""
    """A file that a user would upload and that is not there; `reason` is its kind."""


@dataclass(frozen=True)
class Finished:
    """A user's prompt that is over, whether it worked or not. Seconds."""

    id: str
    ran: float
    waited: float | None
    """In the queue; None where ComfyUI did not note when it came."""
    worked: bool = True
    cached: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    """Class and inputs of the nodes that ComfyUI's own cache answered."""
    graph: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """The prompt, in API format."""


FileStamp = tuple[tuple[int, int, int], ...]
"""(mtime_ns, size, inode) of each file: changes when a file is replaced."""


class Watcher(Protocol):
    """Asked at every call of a watched loader node, in the thread that makes the call.

    `changes` is what the class answers to ComfyUI's question whether it must run again although its inputs
    are the same (`Loaders.changes`).
    """

    def recall(self, spec: LoaderSpec, arguments: Mapping[str, Any], changes: str) -> Outputs | None:
        """Return the outputs kept for these arguments, or None: then the node is really run."""
        ...

    def keep(self, spec: LoaderSpec, arguments: Mapping[str, Any], changes: str, outputs: Outputs) -> None:
        """Take what the node returned after `recall` gave None."""
        ...


class Loaders(Protocol):
    """The loader nodes of this ComfyUI. Asked only once all custom nodes are registered."""

    def loader_names(self) -> Collection[str]: ...
    def loader(self, name: str) -> LoaderSpec | None: ...
    def files(self, spec: LoaderSpec, inputs: Mapping[str, Any]) -> tuple[ModelFile, ...]: ...
    def searched(self, folder: str) -> Collection[str]:
        """Return the directories that ComfyUI searches for that kind of model, as shown: models/vae."""
        ...

    def arguments(self, spec: LoaderSpec, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        """Inputs with the node function's own defaults applied, as a watcher will see them."""
        ...

    def changes(self, spec: LoaderSpec, inputs: Mapping[str, Any], node: GraphNode) -> str | None:
        """Return what IS_CHANGED or fingerprint_inputs answers, as text; "" for a class without them.

        None if two answers can never be equal, so that ComfyUI runs the node in every prompt.
        """
        ...

    def failed_imports(self) -> Collection[str]:
        """Return the folder names of the custom nodes whose import failed."""
        ...


class Host(Loaders, Protocol):
    """ComfyUI, as far as this plugin needs it."""

    def facts(self) -> HostFacts: ...
    def node_types(self) -> NodeTypes:
        """All node classes, for reading workflows. Asked only once all custom nodes are registered."""
        ...

    # acts: only in the thread that runs prompts, that is, inside a job
    def submit(self, job: Callable[[], Awaitable[None]], *, front: bool = False) -> Future[None]:
        """Queue `job` like a prompt, or before all that wait.

        Done when it has run; it never raises into the queue.
        """
        ...

    async def call(self, spec: LoaderSpec, inputs: Mapping[str, Any], node: GraphNode) -> Outputs:
        """Run the node as the executor would in that graph: V1 or V3, sync or async.

        Raises what it raises.
        """
        ...

    def watch(self, spec: LoaderSpec, watcher: Watcher) -> Callable[[], None]:
        """From now on `watcher` is asked at each call of that node class. Returns the way back."""
        ...

    def values(self, outputs: Outputs) -> tuple[Any, ...]:
        """Return what the outputs hold, one value for each output of the node."""
        ...

    def usable(self, outputs: Outputs) -> str:
        """Empty if the outputs can be kept, else what they are."""
        ...

    def push(
        self, pushed: Sequence[Outputs], beside: Collection[Outputs] = ()
    ) -> list[tuple[BaseException, ...]]:
        """Move the models in these outputs to their devices, the first of them first, as far as they fit.

        None pushes out one that comes before it, nor any other of `beside`. One that fails costs no other:
        returns what each raised. What is there, or belongs in main memory, stays as it is; nothing is moved
        where ComfyUI would undo it at once.
        """
        ...

    def repair(self, outputs: Outputs) -> None:
        """Mend ComfyUI's list of loaded models if it lost track of one of these."""
        ...

    def relieve(self) -> None:
        """After out-of-memory, and to sleep: move every model off the device, and give freed memory back."""
        ...

    def collect(self) -> None:
        """After letting go of outputs, and after moving weights: give the memory back to the system."""
        ...

    def empty_cache(self) -> None:
        """Have ComfyUI forget the outputs of all nodes once this job is over. Models stay where they are."""
        ...

    def was_cancelled(self) -> bool:
        """Someone pressed cancel since the job began."""
        ...

    def free_device_memory(self) -> int:
        """Free bytes on the compute device; 0 where that is the main memory, or shares it.

        May be asked from the event loop too.
        """
        ...

    # on the event loop
    async def run(
        self,
        prompt: Mapping[str, Any],
        limit: float,
        workflow: Mapping[str, Any] | None = None,
        *,
        fresh: bool = False,
    ) -> Failed | float:
        """Run an API-format prompt to its end, before those that wait.

        Args:
            prompt: The prompt.
            limit: Seconds that it may run.
            workflow: The same in the editor's format, for nodes that look into it.
            fresh: Empty ComfyUI's cache first, so that every node runs. Models stay where they are.

        Returns:
            The seconds that it ran, as ComfyUI notes them, or what went wrong.
        """
        ...

    def news(self) -> tuple[tuple[Failed, ...], tuple[Finished, ...]]:
        """Return what raised in prompts that ended since the last call, and the seconds of users' prompts."""
        ...

    def queue_remaining(self) -> int:
        """Prompts that run or wait, without our jobs."""
        ...

    def unfinished(self) -> tuple[str, ...]:
        """Return the ids of the prompts that run or wait, without our jobs."""
        ...

    def running_prompt(self) -> str:
        """Return the id of the user's prompt that runs now, or an empty text."""
        ...

    def prompt_worker(self) -> Thread | None:
        """Return the thread that runs prompts, or None if it cannot be identified."""
        ...

    def is_busy(self) -> bool:
        """Something runs or waits, be it our job."""
        ...

    # may be asked from any thread at any time: no lock, no disk, no device
    def changed(self) -> None:
        """Notify open pages that there is something new to ask for."""
        ...

    def loads_pickles_safely(self) -> bool: ...
    def maps_files(self) -> bool:
        """Weights stay in their files until they are used (dynamic VRAM): loading them needs no memory."""
        ...

    def is_out_of_memory(self, error: BaseException) -> bool: ...
    def is_interrupt(self, error: BaseException) -> bool: ...
    def placement(self, outputs: Outputs) -> Placement: ...
    def dtypes(self, outputs: Outputs) -> tuple[str, ...]:
        """What the weights are kept in: float16, bfloat16 and the like."""
        ...

    def user_folder(self) -> Path:
        """Where ComfyUI keeps what its one user saves; his workflows lie below it."""
        ...
