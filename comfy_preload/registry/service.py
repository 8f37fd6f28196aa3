"""The registry of one process.

A thread that writes this replica's statement to Redis and reads those of the others.

Request handlers read the attribute `fleet`: no lock, no network. A change of the connection is one line in
the log, an attempt is none.
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

from comfy_preload.core.errors import Problem, problem
from comfy_preload.core.log import log
from comfy_preload.core.state.slot import Slot
from comfy_preload.core.state.snapshot import Snapshot
from comfy_preload.core.version import plugin_version
from comfy_preload.registry.address import Address, address_of
from comfy_preload.registry.fleet import Fleet
from comfy_preload.registry.identity import Contents
from comfy_preload.registry.redis_link import Exchange, Heard, RedisLink, UnavailableError
from comfy_preload.registry.statement import RefusedError, Statement, decode, statement_of

TICK = 0.5
"""Seconds between two looks at this replica; a change is written at once."""
INTERVAL = 2.0
"""Seconds between two heartbeats where nothing changes."""
BACKOFF = (0.5, 15.0)
"""Seconds until the next attempt: the first, and the most.

Doubled each time, up to half as much again at random.
"""
STEADY = 10.0
"""Seconds that a connection must hold before the next failure counts as the first."""
FORGIVEN = 30.0
"""Seconds after which another process under our id, last seen then, counts as gone."""
GOODBYE_TIMEOUT = 0.5
"""Seconds that the process may wait at its end until its statement is deleted."""


class Registry:
    """One replica's place in the fleet."""

    def __init__(
        self,
        address: Address,
        snapshot: Callable[[], Snapshot],
        slots: Callable[[], Iterable[Slot]] = tuple,
        *,
        version: str = "0",
    ) -> None:
        self.instance = uuid.uuid4().hex
        self._address = address
        self._snapshot = snapshot
        self._slots = slots
        self._version = version
        self._contents = Contents()
        self._link: RedisLink | None = None
        self._stop = threading.Event()
        self._written: Statement | None = None
        """As last written to Redis."""
        self._connected: bool | None = None
        """None: not known yet."""
        self._reasons: set[str] = set()
        """Reasons reported since Redis became unavailable."""
        self._problems: dict[str, Problem] = {}
        self._failures = 0
        self._since = self._clash = 0.0
        """When the connection was made, and when another process was last seen under our id."""
        self._offset = 0.0
        self.fleet = Fleet(own=self._own(), guarded=address.guarded)
        self._thread = threading.Thread(target=self._run, name="preload-registry", daemon=True)

    def start(self) -> None:
        """Returns at once."""
        self._thread.start()
        atexit.register(self.close)

    def close(self) -> None:
        """Delete our statement, within GOODBYE_TIMEOUT seconds. May be called twice."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(GOODBYE_TIMEOUT)

    # -- in the thread ----------------------------------------------------------------------------

    def _run(self) -> None:
        next_try = 0.0
        while not self._stop.is_set():
            try:
                next_try = self._beat(next_try)
            except ModuleNotFoundError as missing:
                if missing.name != "redis":
                    raise
                self._problem(problem("registry_package_missing"))
                return
            except Exception:  # noqa: BLE001 — the other replicas go on without this one
                log.exception("registry: a heartbeat failed")
                next_try = time.monotonic() + BACKOFF[1]
            self._stop.wait(TICK)
        if self._written is not None and self._link is not None:
            with contextlib.suppress(UnavailableError):
                self._link.remove(self.instance)

    def _beat(self, next_try: float) -> float:
        """Look at this replica, and talk to Redis if it is time.

        Return when that is next, if nothing changes.
        """
        own = self._own()
        self.fleet = replace(self.fleet, own=own)
        now = time.monotonic()
        changed = not own.same_but_for_time(self._written)
        if now < next_try and not (changed and self._connected):
            return next_try
        try:
            self._link = self._link or RedisLink(self._address)
            found = self._link.exchange(own)
        except UnavailableError as error:
            return now + self._unavailable(str(error))
        self._update(own, found)
        self._written = own
        return now + INTERVAL * random.uniform(0.9, 1.1)  # noqa: S311 — replicas that started together do not ask together

    def _update(self, own: Statement, exchange: Exchange) -> None:
        now = time.time() + exchange.offset
        found = [_read(heard, one, now) for one, heard in exchange.others.items()]
        others = tuple(one for one in found if isinstance(one, Statement))
        ignored = Counter(one for one in found if isinstance(one, str))
        self._check_id(own, exchange)
        self._offset = exchange.offset
        if not self._connected:
            self._connected = True
            self._since = time.monotonic()
            self._reasons.clear()
            self._problems.pop("registry_unavailable", None)
            log.info("registry: connected as %s, %d other replicas", own.id, len(others))
        if time.monotonic() - self._since > STEADY:
            self._failures = 0
        self.fleet = Fleet(
            own,
            others,
            dict(ignored),
            connected=True,
            problems=self._shown(),
            offset=exchange.offset,
            guarded=self._address.guarded,
        )

    def _check_id(self, own: Statement, exchange: Exchange) -> None:
        """Look for another process's statement under our id.

        Before our first one, it is what our last run left there.
        """
        try:
            found = decode(exchange.own, key=own.id) if exchange.own and self._written is not None else None
        except RefusedError:
            found = None
        now = time.monotonic()
        if found is not None and found.instance != self.instance:
            self._clash = now
            if "registry_id_taken" not in self._problems:
                self._problem(problem("registry_id_taken", found=own.id))
        elif now - self._clash > FORGIVEN:
            self._problems.pop("registry_id_taken", None)

    def _unavailable(self, reason: str) -> float:
        """Report it. Return the seconds until the next attempt."""
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

    def _own(self) -> Statement:
        contents = self._contents.of(self._slots())
        address = self._address
        own = statement_of(
            self._snapshot(),
            contents,
            id=address.id,
            instance=self.instance,
            address=address.advertise,
            version=self._version,
        )
        return replace(own, updated=time.time() + self._offset)


def start_registry(
    raw: Any, snapshot: Callable[[], Snapshot], slots: Callable[[], Iterable[Slot]] = tuple
) -> Registry | None:
    """Start the registry of this process from what is under `registry:`.

    Return None if it is not usable; never raise.
    """
    address = address_of(raw)
    if address is None:
        return None
    try:
        registry = Registry(address, snapshot, slots, version=plugin_version())
        registry.start()
    except Exception:  # noqa: BLE001 — ComfyUI must start
        log.exception("the registry could not be started")
        return None
    return registry


def _read(heard: Heard, key: str, now: float) -> Statement | str:
    """Return the statement, or why it is ignored."""
    try:
        found = replace(decode(heard.raw, key=key), updated=heard.updated, queue=heard.queue)
        found.check_age(now)
    except RefusedError as refused:
        return refused.reason
    return found
