"""What ComfyUI's import of this folder sets in motion. Cheap when there is nothing to preload."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from comfy_preload.api.routes import register
from comfy_preload.boot import before_torch
from comfy_preload.core.errors import PreloadError, Problem, problem
from comfy_preload.core.log import log
from comfy_preload.core.machine.head_start import HeadStart
from comfy_preload.core.settings.document import Document, read, settings_path
from comfy_preload.core.state.jobs import Command, Job
from comfy_preload.core.state.readiness import Readiness
from comfy_preload.core.state.residency import Slot
from comfy_preload.core.state.snapshot import Phase, Snapshot, Status
from comfy_preload.host.server import prompt_server

if TYPE_CHECKING:  # importing it is what an empty list must not cost: pydantic, torch
    from comfy_preload.core.settings.validation import Settings
    from comfy_preload.preloader import Preloader
    from comfy_preload.registry.service import Registry

KNOWN_WHILE_IDLE = frozenset(
    {"when", "models", "workflows", "on_error", "timeout", "drain", "memory_floor", "prefetch", "probe"}
)
"""The keys of the settings that alone are nothing to do: all but `registry`. Their values need pydantic to be validated."""


def install() -> Plugin | None:
    """Read the settings, add the routes and, if models are listed, arrange the preload. Never raises.

    Return None where ComfyUI runs as a library: no port, no queue, nothing that could be ready.
    """
    server = prompt_server()
    if server is None:
        return None
    plugin = Plugin(server, before_torch.head_start)
    register(server.routes, plugin.snapshot, plugin)
    if before_torch.early_probe:
        before_torch.early_probe.snapshot = plugin.snapshot_before_listening
    try:
        plugin.set_up()
    except Exception as error:  # noqa: BLE001 — whatever it is, ComfyUI must start
        log.exception("the preload could not be set up; ComfyUI goes on without it")
        plugin.fail(problem("internal", error=type(error).__name__, reason="see ComfyUI's log"))
    return plugin


class Plugin:
    """The preloader, made when there is something to preload, and what stands in for it until then."""

    def __init__(self, server: Any, head_start: HeadStart) -> None:
        self._head_start = head_start
        self._server = server
        self._preloader: Preloader | None = None
        self._idle = _nothing_to_do()
        self._registry: Registry | None = None

    @property
    def preloader(self) -> Preloader | None:
        """None while there is nothing to preload."""
        return self._preloader

    def snapshot(self) -> Snapshot:
        now = (self._preloader.readiness if self._preloader else self._idle).snapshot()
        return replace(now, fleet=self._registry.fleet) if self._registry else now

    def snapshot_before_listening(self) -> Snapshot:
        """For the early probe: not ready before ComfyUI's port is open.

        `start_multi_address` (server.py) sets `address` right after it has opened the first port.
        """
        now = self.snapshot()
        too_early = now.serves and not hasattr(self._server, "address")
        return replace(now, status=Status.STARTING, serves=False) if too_early else now

    def order(self, command: Command, model: str | None = None) -> Job:
        """See `core.jobs.Door`. A reload may find that there is something to preload now."""
        if self._preloader is None:
            self._preloader = self._make(
                replace(self._settings(Document(None)), problems=self._idle.problems)
            )
            self._preloader.begin()
        return self._preloader.order(command, model)

    def entries(self, prompt: Mapping[str, Any], tag: str | None = None) -> tuple[str, str]:
        """See `core.jobs.Door`."""
        from comfy_preload.core.planning import missing_entries
        from comfy_preload.host.node_types import ComfyNodeTypes

        return missing_entries.entries(settings_path(), prompt, ComfyNodeTypes(), tag)

    def set_up(self) -> None:
        """Read the settings, and if there is something to preload do so at the last moment before the port opens."""
        document, problems = self._document()
        self._join(document.data.get("registry") if isinstance(document.data, dict) else None)
        if not problems and _is_idle(document):
            return
        settings = self._settings(document)
        settings = replace(settings, problems=(*problems, *settings.problems))
        if (
            settings.is_empty and settings.options.on_error != "exit"
        ):  # only problems: no host is needed to tell them
            self.fail(*settings.problems)
            return
        self._preloader = self._make(settings)
        self._server.app.on_startup.append(self._preloader.start)

    def _join(self, told: Any) -> None:
        """Take part in the fleet, if the settings say so."""
        if told:
            from comfy_preload.registry.service import begin

            self._registry = begin(told, self.snapshot_before_listening, self._slots)

    def _slots(self) -> tuple[Slot, ...]:
        return self._preloader.residency.slots if self._preloader else ()

    def fail(self, *problems: Problem) -> None:
        """Stand there, explaining."""
        for fault in problems:
            log.error("%s", fault)
        self._preloader = None
        self._idle.problems = problems

    def _make(self, settings: Settings) -> Preloader:
        from comfy_preload.host.comfy import ComfyHost
        from comfy_preload.preloader import Preloader

        return Preloader(settings, ComfyHost(self._server), self._reread, self._head_start)

    def _reread(self) -> Settings:
        document, problems = self._document()
        settings = self._settings(document)
        return replace(settings, problems=(*problems, *settings.problems))

    def _settings(self, document: Document) -> Settings:
        from comfy_preload.core.settings.validation import settle

        return replace(settle(document), folder=settings_path().parent)

    def _document(self) -> tuple[Document, tuple[Problem, ...]]:
        try:
            return read(settings_path()), ()
        except PreloadError as error:
            return Document(None), (error.problem,)


def _is_idle(document: Document) -> bool:
    """True if nothing is listed and every key is known: told without validating the values."""
    data = {} if document.data is None else document.data
    if document.problems or not isinstance(data, dict) or data.get("models") or data.get("workflows"):
        return False
    return data.keys() <= KNOWN_WHILE_IDLE


def _nothing_to_do() -> Readiness:
    """Ready from the beginning."""
    readiness = Readiness.idle()
    readiness.move(Phase.SETTLED)
    return readiness
