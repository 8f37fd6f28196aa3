"""The registry of one process: a thread that tells the fleet of this replica and listens to the others.

Handlers read `fleet`, an attribute: they take no lock and ask no network. A state change is one line in the log, a try is none.
"""

from __future__ import annotations

import atexit
import contextlib
import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from comfy_preload import PLUGIN_FOLDER
from comfy_preload.core.errors import Problem, problem
from comfy_preload.core.log import log
from comfy_preload.core.state.residency import Slot
from comfy_preload.core.state.snapshot import Snapshot, Status
from comfy_preload.registry.address import Where, where
from comfy_preload.registry.fleet import Fleet
from comfy_preload.registry.identity import Contents
from comfy_preload.registry.redis_link import Link, Reading, UnavailableError
from comfy_preload.registry.statement import Entry, RefusedError, decode, entry

TICK = 0.5
"""Seconds between two looks at this replica; what has changed is told at once."""
INTERVAL = 2.0
"""Seconds between two heartbeats where nothing changes."""
BACKOFF = (0.5, 15.0)
"""Seconds until the next try: the first, and the most. Doubled each time, up to half as much again by chance."""
STEADY = 10.0
"""Seconds that a connection must hold before the next failure counts as the first."""
FORGIVEN = 30.0
"""Seconds after which somebody else under our id, last seen then, is gone."""
LAST_WORD = 0.5
"""Seconds that the end of the process may take longer for saying goodbye."""


class Registry:
    """One replica's place in the fleet."""

    def __init__(
        self,
        at: Where,
        snapshot: Callable[[], Snapshot],
        slots: Callable[[], Iterable[Slot]] = tuple,
        *,
        version: str = "0",
    ) -> None:
        self.instance = uuid.uuid4().hex
        self._where = at
        self._snapshot = snapshot
        self._slots = slots
        self._version = version
        self._contents = Contents()
        self._link: Link | None = None
        self._stop = threading.Event()
        self._told: Entry | None = None
        """As last written to Redis."""
        self._connected: bool | None = None
        """None: not known yet."""
        self._reasons: set[str] = set()
        """Told since Redis went away."""
        self._problems: dict[str, Problem] = {}
        self._failures = 0
        self._since = self._clash = 0.0
        """When the connection was made, and when somebody else was last seen under our id."""
        self._offset = 0.0
        self.fleet = Fleet(own=self._own())
        self._thread = threading.Thread(target=self._run, name="preload-registry", daemon=True)

    def start(self) -> None:
        """Returns at once."""
        self._thread.start()
        atexit.register(self.close)

    def close(self) -> None:
        """Say goodbye, within LAST_WORD seconds. May be called twice."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(LAST_WORD)

    # -- in the thread ----------------------------------------------------------------------------

    def _run(self) -> None:
        next_try = 0.0
        while not self._stop.is_set():
            try:
                next_try = self._look(next_try)
            except ModuleNotFoundError as missing:
                if missing.name != "redis":
                    raise
                self._problem(problem("registry_package_missing"))
                return
            except Exception:  # noqa: BLE001 — the fleet goes on without this replica for a moment; nobody else is harmed
                log.exception("registry: a heartbeat failed")
                next_try = time.monotonic() + BACKOFF[1]
            self._stop.wait(TICK)
        if self._told is not None and self._link is not None:
            with contextlib.suppress(UnavailableError):
                self._link.remove(self.instance)

    def _look(self, next_try: float) -> float:
        """One look at this replica, and a word with Redis if it is time. Returns when that is next, if nothing changes."""
        own = self._own()
        self.fleet = replace(self.fleet, own=own)
        now = time.monotonic()
        leaving = own.status == Status.DRAINING.value
        changed = self._told is not None if leaving else not own.same_but_for_time(self._told)
        if now < next_try and not (changed and self._connected):
            return next_try
        try:
            self._link = self._link or Link(self._where)
            if leaving and self._told is not None:
                self._link.remove(self.instance)
            reading = self._link.exchange(None if leaving else own)
        except UnavailableError as error:
            return now + self._away(str(error))
        self._take(own, reading)
        self._told = None if leaving else own
        return now + INTERVAL * random.uniform(0.9, 1.1)  # noqa: S311 — so that replicas started together do not ask together

    def _take(self, own: Entry, reading: Reading) -> None:
        found = [_read(raw, one, time.time() + reading.offset) for one, raw in reading.entries.items()]
        others = tuple(one for one in found if isinstance(one, Entry))
        ignored = Counter(one for one in found if isinstance(one, str))
        self._check_id(own, reading)
        self._offset = reading.offset
        if not self._connected:
            self._connected = True
            self._since = time.monotonic()
            self._reasons.clear()
            self._problems.pop("registry_unavailable", None)
            log.info("registry: connected as %s, %d other replicas", own.id, len(others))
        if time.monotonic() - self._since > STEADY:
            self._failures = 0
        self.fleet = Fleet(
            own, others, dict(ignored), connected=True, problems=self._shown(), offset=reading.offset
        )

    def _check_id(self, own: Entry, reading: Reading) -> None:
        """Somebody else's word under our id, after we had written there. Before, it is what our own last run left."""
        try:
            found = decode(reading.own, key=own.id) if reading.own and self._told is not None else None
        except RefusedError:
            found = None
        now = time.monotonic()
        if found is not None and found.instance != self.instance:
            self._clash = now
            if "registry_id_taken" not in self._problems:
                self._problem(problem("registry_id_taken", found=own.id))
        elif now - self._clash > FORGIVEN:
            self._problems.pop("registry_id_taken", None)

    def _away(self, reason: str) -> float:
        """Returns for how many seconds to leave Redis alone."""
        if reason not in self._reasons:
            self._reasons.add(reason)
            self._problem(problem("registry_unavailable", reason=reason))
        self._connected = False
        self.fleet = replace(self.fleet, connected=False)
        first, most = BACKOFF
        pause = min(most, first * 2 ** min(self._failures, 10))
        self._failures += 1
        return pause * random.uniform(1.0, 1.5)  # noqa: S311 — see INTERVAL

    def _problem(self, wrong: Problem) -> None:
        self._problems[wrong.code] = wrong
        log.warning("registry: %s", wrong)
        self.fleet = replace(self.fleet, problems=self._shown())

    def _shown(self) -> tuple[Problem, ...]:
        return tuple(self._problems.values())

    def _own(self) -> Entry:
        contents = self._contents.of(self._slots())
        at = self._where
        own = entry(
            self._snapshot(),
            contents,
            id=at.id,
            instance=self.instance,
            address=at.advertise,
            version=self._version,
        )
        return replace(own, updated=time.time() + self._offset)


def begin(
    raw: Any, snapshot: Callable[[], Snapshot], slots: Callable[[], Iterable[Slot]] = tuple
) -> Registry | None:
    """Start the registry of this process from what stands under `registry:`. None if that is of no use; never raises."""
    at = where(raw)
    if at is None:
        return None
    try:
        registry = Registry(at, snapshot, slots, version=_version())
        registry.start()
    except Exception:  # noqa: BLE001 — ComfyUI must start
        log.exception("the registry could not be started")
        return None
    return registry


def _read(raw: bytes, key: str, now: float) -> Entry | str:
    """The entry, or why it is not believed."""
    try:
        found = decode(raw, key=key)
        found.check_age(now)
    except RefusedError as refused:
        return refused.reason
    return found


def _version() -> str:
    """Of the plugin: pyproject.toml is the one place that says it. Python 3.10 cannot read TOML."""
    with contextlib.suppress(OSError):
        for line in (PLUGIN_FOLDER / "pyproject.toml").read_text(encoding="utf-8").splitlines():
            if line.startswith("version = "):
                return line.partition('"')[2].rstrip('"')[:50] or "unknown"
    return "unknown"
