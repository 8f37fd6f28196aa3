"""The start of the plugin, when ComfyUI imports it.

Imports no pydantic or torch while there is nothing to preload.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from comfy_preload.api.draining import refuse_prompts
from comfy_preload.api.routes import register
from comfy_preload.boot import before_torch
from comfy_preload.core.errors import PreloadError, Problem, internal_error, problem
from comfy_preload.core.log import log
from comfy_preload.core.machine.head_start import HeadStart
from comfy_preload.core.settings.document import is_idle_worker, read, settings_path
from comfy_preload.core.settings.glance import CommandsMode, Glance, SnapshotGlance, glance
from comfy_preload.core.state.jobs import Command, Job
from comfy_preload.core.state.readiness import Readiness
from comfy_preload.core.state.slot import Slot
from comfy_preload.core.state.snapshot import Hold, Phase, Snapshot, Status
from comfy_preload.core.state.tally import Tally
from comfy_preload.host.server import prompt_server

if TYPE_CHECKING:
    from comfy_preload.core.settings.validation import Settings
    from comfy_preload.preloader import Preloader
    from comfy_preload.registry.fleet import Fleet
    from comfy_preload.registry.service import Registry


def install() -> Plugin | None:
    """Read the settings, add the routes and, if models are listed, arrange the preload. Never raises.

    Return None if ComfyUI runs as a library: there is no port and no queue.
    """
    server = prompt_server()
    if server is None:
        before_torch.collector.end()
        return None
    plugin = Plugin(server, before_torch.head_start)
    register(
        server.routes,
        plugin.snapshot,
        plugin,
        fleet=plugin.fleet,
        mode=lambda: plugin.commands,
        tally=plugin.tally,
    )
    plugin.take_probe()
    try:
        plugin.set_up()
    except Exception as error:  # noqa: BLE001 — ComfyUI must start
        log.exception("the preload could not be set up; ComfyUI continues without it")
        plugin.fail(internal_error(error))
    return plugin


class Plugin:
    """The preloader, made when there is something to preload, and an idle `Readiness` until then."""

    def __init__(self, server: Any, head_start: HeadStart) -> None:
        self._server = server
        self._head_start = head_start
        self._preloader: Preloader | None = None
        self._idle = Readiness.idle(before_torch.startup)
        self._problems: tuple[Problem, ...] = ()
        """Problems of the settings file, while there is no preloader."""
        self._registry: Registry | None = None
        self._asked: SnapshotGlance | None = None
        """The hold that the settings ask for."""
        self._hold: Hold | None = None
        """What became of the hold, once it is over."""
        self._is_open = False
        """Whether probe and registry were started; not before a hold is over."""
        self.tally = Tally()
        self.commands = CommandsMode.OFF
        """Who may give commands; nobody before the settings are read."""

    @property
    def preloader(self) -> Preloader | None:
        """Return the preloader, or None while there is nothing to preload."""
        return self._preloader

    def snapshot(self) -> Snapshot:
        now = (self._preloader.readiness if self._preloader else self._idle).snapshot()
        return replace(now, counted=self.tally.now, hold=self._hold)

    def snapshot_before_listening(self) -> Snapshot:
        """Return the snapshot for the early probe: not ready before ComfyUI's port is open.

        `start_multi_address` (server.py, 0.3.75) sets `address` right after it has opened the first port.
        """
        now = self.snapshot()
        too_early = now.serves and not hasattr(self._server, "address")
        return replace(now, status=Status.STARTING, serves=False) if too_early else now

    def fleet(self) -> Fleet | None:
        """Return the state of the other replicas, or None without a registry."""
        return self._registry.fleet if self._registry else None

    def order(self, command: Command, model: str | None = None) -> Job:
        """See `core.state.jobs.Door`. A reload may find that there is something to preload now."""
        if self._preloader is None:
            from comfy_preload.core.settings.schema import Options
            from comfy_preload.core.settings.validation import Settings

            self._preloader = self._make(Settings(Options(), (), self._problems))
            self._preloader.begin()
        return self._preloader.order(command, model)

    def entries(self, prompt: Mapping[str, Any], tag: str | None = None) -> tuple[str, str]:
        """See `core.state.jobs.Door`."""
        from comfy_preload.core.planning import missing_entries
        from comfy_preload.host.node_types import ComfyNodeTypes

        return missing_entries.entries(settings_path(), prompt, ComfyNodeTypes(), tag)

    def set_up(self) -> None:
        """Read the settings, and register the hook before the port opens if there is something to preload."""
        if is_idle_worker():
            log.info(
                "a worker of ComfyUI-Distributed: the settings file is its master's; PRELOAD_WORKERS=1 loads "
                "it here too"
            )
        seen = _glance()
        self.commands = seen.commands
        self._asked = seen.snapshot
        if not seen.snapshot:
            self._open(seen)
        if seen.is_idle:
            self.fail()
            return
        hooks = [_end_imports, self._start, self._record_startup]
        if seen.snapshot and seen.snapshot.when == "imports":
            hooks.insert(1, self._start_held)
        elif not self._prepare() and not seen.snapshot:
            return
        before_torch.collector.keep_imports()
        self._server.app.on_startup.extend(hooks)
        self._server.app.middlewares.append(refuse_prompts(self._is_draining, self.tally.refuse_prompt))

    def take_probe(self) -> None:
        """Let the early probe, if there is one, report this plugin's state."""
        if before_torch.early_probe:
            before_torch.early_probe.snapshot = self.snapshot_before_listening
            before_torch.early_probe.fleet = self.fleet

    async def hold(self, why_not: Problem | None = None) -> Hold | None:
        """Wait until a platform has copied this process; then open the probe, and join the registry.

        Returns None if the settings ask for no hold, or no provider is here.
        """
        from comfy_preload.stages.hold import hold

        began = time.monotonic()
        if self._asked is not None:
            self._hold = await hold(self._asked, self._head_start, why_not)
        before_torch.startup.leave_out(time.monotonic() - began)
        if self._hold and self._hold.restored:
            from comfy_preload.host.devices import reseed

            reseed()
            self.tally.restored = self._hold.restored
        seen = _glance()
        self.commands = seen.commands
        self._open(seen)
        return self._hold

    def _prepare(self) -> bool:
        """Read the settings and make the preloader. Return whether there is one."""
        settings = self._reread()
        if (
            settings.is_empty and settings.options.on_error != "exit"
        ):  # at most problems to report: no host is needed
            self.fail(*settings.problems)
            return False
        self._preloader = self._make(settings)
        return True

    def _open(self, seen: Glance) -> None:
        """Start what has a socket. Only the first call counts."""
        if self._is_open:
            return
        self._is_open = True
        if seen.probe_port is not None and before_torch.early_probe is None and self._asked:
            before_torch.open_probe(seen.probe_port)
            self.take_probe()
        if seen.registry:
            from comfy_preload.registry.service import start_registry

            self._registry = start_registry(seen.registry, self.snapshot_before_listening, self._slots)

    async def _start_held(self, _app: Any) -> None:
        """`on_startup`, with `snapshot: {when: imports}`: hold, then read the settings. Never raises."""
        try:
            await self.hold()
            seen = _glance()
            if self._hold and seen.prefetch.enabled and not seen.off:
                before_torch.read_ahead(seen, settings_path().parent, libraries=False, models=True)
            self._prepare()
        except Exception as error:  # noqa: BLE001 — ComfyUI must start
            log.exception("the preload could not be set up; ComfyUI continues without it")
            self.fail(internal_error(error))

    async def _start(self, app: Any) -> None:
        """`on_startup`: preload, then see that everything is open, whatever became of it."""
        if self._preloader:
            await self._preloader.start(app)
        if not self._is_open:
            await self.hold(problem("snapshot_not_wanted", reason="nothing was loaded in time"))

    def fail(self, *problems: Problem) -> None:
        """Report these problems instead of preloading; without any, report that nothing is listed."""
        before_torch.collector.end()  # the hook that does it may not be there
        for wrong in problems:
            log.error("%s", wrong)
        self._preloader = None
        self._problems = problems
        self._idle = _settled(problems)

    async def _record_startup(self, _app: Any) -> None:
        """`on_startup`, after a preload with `when: startup`.

        Write down what this start has read, for the next one. A restored process has read nothing.
        """
        if before_torch.head_start.needs_record and not (self._hold and self._hold.restored):
            threading.Thread(target=before_torch.record_startup, name="preload-trace", daemon=True).start()

    def _is_draining(self) -> bool:
        return self._preloader is not None and self._preloader.readiness.is_draining

    def _slots(self) -> tuple[Slot, ...]:
        return self._preloader.residency.slots if self._preloader else ()

    def _make(self, settings: Settings) -> Preloader:
        from comfy_preload.host.comfy import ComfyHost
        from comfy_preload.preloader import Preloader

        return Preloader(
            settings,
            ComfyHost(self._server),
            self._reread,
            self._head_start,
            self.tally,
            startup=before_torch.startup,
            hold=None if self._is_open else self.hold,
        )

    def _reread(self) -> Settings:
        from comfy_preload.core.settings.validation import load

        settings = load(settings_path())
        if not settings.problems:  # a broken file must not turn off the command that reads it again
            self.commands = _glance().commands
        return settings


async def _end_imports(_app: Any) -> None:
    """`on_startup`: all nodes are registered, no model is loaded yet."""
    before_torch.collector.end()
    before_torch.head_start.end_imports()


def _glance() -> Glance:
    try:
        return glance(read(settings_path()))
    except PreloadError:
        return Glance(commands=CommandsMode.OFF, needs_validation=True)


def _settled(problems: tuple[Problem, ...]) -> Readiness:
    """Return a readiness without models: ready from the start, or failed with these problems."""
    readiness = Readiness.idle(before_torch.startup)
    readiness.fail(*problems)
    readiness.move(Phase.SETTLED)
    return readiness
