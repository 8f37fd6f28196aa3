"""The connection to Redis: a few commands with short time-outs.

Every failure is one exception whose reason can be shown.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from comfy_preload.registry.address import Address
from comfy_preload.registry.redis_client import connect
from comfy_preload.registry.statement import MAX_BYTES, TTL, Statement, encode

TIMEOUT = 1.0
"""Seconds for one answer."""
MAX_REPLICAS = 500
_AT_ONCE = 50
"""Statements asked for in one round trip at most."""

_NOW = "return redis.call('TIME')"
"""A script, since a cluster must know for which key it is asked."""
_REMOVE = """
local found = redis.call('GET', KEYS[1])
if found and string.find(found, ARGV[1], 1, true) then
  redis.call('ZREM', KEYS[2], ARGV[2])
  return redis.call('DEL', KEYS[1])
end
return 0"""


class UnavailableError(Exception):
    """Redis cannot be used now. The message holds no address, password or path, whatever Redis answered."""


@dataclass(frozen=True)
class Heard:
    """Another replica's statement, and what the index says of it.

    That changes more often than the statement.
    """

    raw: bytes
    updated: float
    queue: int


@dataclass(frozen=True)
class Exchange:
    """What one exchange found in Redis."""

    others: Mapping[str, Heard]
    own: bytes
    """The statement under our id before we wrote; b'' if there was none."""
    offset: float
    """Redis' clock minus ours, seconds."""


class RedisLink:
    """A connection that is made when it is needed.

    Raises UnavailableError, and ModuleNotFoundError if redis-py is not installed.
    """

    def __init__(self, address: Address, *, timeout: float = TIMEOUT) -> None:
        from redis import exceptions
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        self._address = address
        self._timeout = timeout
        self._late = False
        self._errors = exceptions
        self._offset: float | None = None
        self._client: Any = None
        self._known: dict[str, tuple[str, bytes]] = {}
        """Statements of others by id, with the digest under which they were read.

        A statement is read when it changed.
        """
        self._member = ""
        """Our member of the index, as last written."""
        self._options: dict[str, Any] = {
            "socket_timeout": timeout,
            "socket_connect_timeout": timeout,
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,
            "decode_responses": False,
            "health_check_interval": 0,
        }

    @property
    def _redis(self) -> Any:
        """The client; made when it is needed, and again after each failure. Call it within `_guard`."""
        if self._client is None:
            try:
                self._client = connect(self._address.redis, self._options)
            except (ValueError, TypeError, AttributeError):
                raise UnavailableError("cannot be asked: its URL is not valid") from None
        return self._client

    def exchange(self, own: Statement) -> Exchange:
        """Write our statement and read those of the others."""
        with self._guard():
            offset = self._measure() if self._offset is None else self._offset
            key, index = self._key(self._address.id), self._address.key("replicas")
            stamp = time.time() + offset
            pipe = self._redis.pipeline(transaction=False)
            pipe.getrange(key, 0, MAX_BYTES)
            pipe.zremrangebyscore(index, "-inf", stamp - 10 * TTL)
            pipe.zrevrange(index, 0, MAX_REPLICAS - 1, withscores=True)
            member = f"{own.id} {_digest(own)} {own.queue}"
            pipe.set(key, encode(replace(own, updated=stamp)), px=int(TTL * 1000))
            pipe.zadd(index, {member: stamp})
            if self._member not in ("", member):
                pipe.zrem(index, self._member)
            before, _, members, *_ = pipe.execute()
            self._member = member
            others = self._read(_members(members, self._address.id))
            return Exchange(others, _bytes(before), self._measure())

    def _read(self, members: Mapping[str, tuple[str, int, float]]) -> dict[str, Heard]:
        """Return the statements of these, read from Redis where their digest is not the known one."""
        self._known = {one: self._known[one] for one in members if one in self._known}
        missing = [one for one, (digest, _, _) in members.items() if self._known.get(one, ("",))[0] != digest]
        for start in range(0, len(missing), _AT_ONCE):
            some = missing[start : start + _AT_ONCE]
            pipe = self._redis.pipeline(transaction=False)
            for one in some:
                pipe.getrange(self._key(one), 0, MAX_BYTES)  # never more, whatever was put there
            for one, raw in zip(some, map(_bytes, pipe.execute(raise_on_error=False)), strict=True):
                self._known[one] = (members[one][0], raw)
        return {
            one: Heard(self._known[one][1], updated, queue)
            for one, (_, queue, updated) in members.items()
            if self._known[one][1]
        }

    def remove(self, instance: str) -> None:
        """Delete our statement, if it is still ours."""
        with self._guard():
            keys = self._key(self._address.id), self._address.key("replicas")
            self._redis.eval(_REMOVE, 2, *keys, instance, self._member)

    def close(self) -> None:
        """Close all connections; the next exchange makes new ones."""
        client, self._client = self._client, None
        with contextlib.suppress(Exception):
            if client is not None:
                (
                    client.disconnect_connection_pools
                    if hasattr(client, "nodes_manager")
                    else client.connection_pool.disconnect
                )()

    def _key(self, replica: str) -> str:
        return self._address.key("replica", replica)

    def _measure(self) -> float:
        """Return Redis' clock minus ours, in seconds."""
        began = time.time()
        seconds, micros = self._redis.eval(_NOW, 1, self._address.key("replicas"))
        self._offset = int(seconds) + int(micros) / 1e6 - (began + time.time()) / 2
        return self._offset

    @contextlib.contextmanager
    def _guard(self) -> Iterator[None]:
        """Limit the whole exchange to a few time-outs, also if the answer comes one byte at a time."""
        self._late = False
        watch = threading.Timer(4 * self._timeout, self._cut)
        watch.daemon = True
        watch.start()
        try:
            yield
        except UnavailableError:
            raise
        except Exception as error:  # noqa: BLE001 — an answer may be anything
            self.close()
            self._offset = None
            raise UnavailableError(self._reason(error)) from None
        finally:
            watch.cancel()

    def _cut(self) -> None:
        self._late = True
        self.close()

    def _reason(self, error: Exception) -> str:
        kinds = self._errors
        table: tuple[tuple[type[Exception] | tuple[type[Exception], ...], str], ...] = (
            (
                (kinds.AuthenticationError, kinds.AuthenticationWrongNumberOfArgsError),
                "refuses the password, or requires one",
            ),
            ((kinds.TimeoutError, TimeoutError), f"does not answer within {self._timeout:g} s"),
            (kinds.OutOfMemoryError, "is full (maxmemory)"),
            (kinds.BusyLoadingError, "is still loading its data"),
            (kinds.ReadOnlyError, "is a read-only copy"),
            (kinds.NoPermissionError, "does not permit a command (ACL)"),
            (kinds.InvalidResponse, "answers with something else than Redis' protocol"),
            (kinds.RedisClusterException, "is not a cluster, or one without a working node"),
        )
        words = str(error).upper()
        if self._late:
            return f"does not answer within {4 * self._timeout:g} s"
        if "CERTIFICATE" in words or "SSL" in words:
            return "cannot be trusted or speaks no TLS: the handshake failed"
        if "NOAUTH" in words or "WRONGPASS" in words:
            return "refuses the password, or requires one"
        found = next((reason for kind, reason in table if isinstance(error, kind)), None)
        if found is None and isinstance(error, kinds.ConnectionError | OSError):
            return "cannot be reached"
        return found or "answers with something else than Redis' protocol"


def _bytes(value: Any) -> bytes:
    """Return b'' for an answer of another type: something else is stored under the key."""
    return value if isinstance(value, bytes) else b""


def _members(found: Any, own: str) -> dict[str, tuple[str, int, float]]:
    """Read the index.

    Digest, queue and time by id, the newest of each id; ours and what is not a member are left out.
    """
    members: dict[str, tuple[str, int, float]] = {}
    for member, score in found if isinstance(found, list) else ():
        words = member.decode("utf-8", "replace").split(" ") if isinstance(member, bytes) else []
        if len(words) != 3 or not words[2].isdecimal():
            continue
        if words[0] != own:
            members.setdefault(words[0], (words[1], int(words[2][:7]), float(score)))
    return members


def _digest(own: Statement) -> str:
    """Return a name for all that a statement says except its time and its queue, which are in the index."""
    return hashlib.blake2s(encode(replace(own, updated=0.0, queue=0)), digest_size=8).hexdigest()
