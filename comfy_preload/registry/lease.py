"""Single flight: of the replicas that share a storage only a few read the same file at once.

The others wait, and then find it in the page cache, or read it in their turn. It is a courtesy, never a lock: if Redis is away,
or the wait gets long, everybody reads. Used by `core/machine/prefetch.py`, which knows it as a function.
"""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from comfy_preload.core.log import log
from comfy_preload.registry.address import Where, where
from comfy_preload.registry.redis_link import Link, UnavailableError
from comfy_preload.registry.storage import place

BUDGET = 0.25
"""Seconds that reading may be held up by finding out whether Redis is there."""
TTL = 3.0
"""Seconds after which the lease of a process that died is free again."""
POLL = 0.1
MOST_WAIT = 60.0
"""Seconds to wait for the turn at one file. Then something is wrong, and nothing is waited for any more."""
MOST_HOLD = 300.0
"""Seconds after which a lease is no longer renewed: a mount that hangs must not hold up the others."""
ON_NETWORK = 4
"""One client seldom gets all that a file server can give. On a disk of the node nobody waits unless the settings say so: the page
cache already sees to it that every byte is read once, and taking turns was slower (docs/registry.md)."""

Release = Callable[[], None]


class Gate:
    """`gate(path)` returns when the file may be read, with what to call once it has been. Never raises; for any thread."""

    def __init__(self, at: Where) -> None:
        self._where = at
        self._token = uuid.uuid4().hex
        self._patience = time.monotonic() + BUDGET
        self._link: Link | None = None
        self._known = threading.Event()
        """Whether there is a Redis."""
        self._held: dict[str, float] = {}
        """Since when, by key."""
        self._lock = threading.Lock()
        self._given_back: SimpleQueue[str] = SimpleQueue()
        self._wake = threading.Event()
        self.closed = threading.Event()
        threading.Thread(target=self._keep, name="preload-gate", daemon=True).start()

    def __call__(self, path: Path) -> Release:
        try:
            self._known.wait(max(0.0, self._patience - time.monotonic()))
            link = self._link
            return self._enter(link, path) if link is not None else _nothing
        except (OSError, UnavailableError) as error:
            if isinstance(error, UnavailableError):
                self._open(str(error))
            return _nothing

    def _enter(self, link: Link, path: Path) -> Release:
        where_it_is = place(path)
        key = self._where.key("reading", where_it_is.key)
        limit = self._where.readers or (ON_NETWORK if where_it_is.network else 0)
        if not limit:
            return _nothing
        began = time.monotonic()
        waited = False
        while self._link is not None and not self.closed.is_set():
            if link.lease(key, self._token, limit, TTL):
                with self._lock:
                    self._held[key] = time.monotonic()
                self._tell(path, time.monotonic() - began)
                if (
                    waited and not where_it_is.network
                ):  # it is in the page cache now: the next need not wait for us
                    self._leave(key)
                return partial(self._leave, key)
            if time.monotonic() - began > MOST_WAIT:
                log.warning(
                    "single flight: not waiting any longer for others to read %s, nor any other file",
                    path.name,
                )
                self._link = None
                break
            waited = True
            self.closed.wait(POLL * random.uniform(0.5, 1.0))  # noqa: S311 — so that those who wait do not ask in step
        return _nothing

    def _tell(self, path: Path, waited: float) -> None:
        if waited > 0.5:
            log.info("single flight: waited %.1f s for others to read %s", waited, path.name)

    def _leave(self, key: str) -> None:
        """Returns at once: whoever has read the file has better to do."""
        with self._lock:
            held = self._held.pop(key, None)
        if held is not None:
            self._given_back.put(key)
            self._wake.set()

    def _keep(self) -> None:
        """In a thread: find out whether there is a Redis, then renew what is held and give back what is not."""
        try:
            link = Link(self._where, timeout=BUDGET)
            link.ping()
            self._link = link
        except UnavailableError as error:
            self._open(str(error))
        except ModuleNotFoundError:  # told by the registry
            pass
        finally:
            self._known.set()
        while (ours := self._link) is not None:
            self._wake.wait(TTL / 3)
            self._wake.clear()
            try:
                self._renew(ours)
            except UnavailableError as error:
                self._open(str(error))

    def _renew(self, link: Link) -> None:
        while not self._given_back.empty():
            link.release(self._given_back.get(), self._token)
        now = time.monotonic()
        with self._lock:
            keys = [key for key, since in self._held.items() if now - since < MOST_HOLD]
        for key in keys:
            link.lease(key, self._token, 0, TTL)  # 0: what has expired meanwhile is not taken anew

    def _open(self, reason: str) -> None:
        """For good: by the next try the reading would be over."""
        if self._link is not None or not self._known.is_set():
            log.info("single flight: Redis %s; files are read without waiting for others", reason)
        self._link = None


def gate(raw: Any) -> Gate | None:
    """What stands under `registry:` -> the gate, None if that is of no use. Returns at once."""
    at = where(raw)
    return None if at is None else Gate(at)


def _nothing() -> None:
    pass
