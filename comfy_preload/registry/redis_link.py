"""The connection to Redis: a few commands with short time-outs. Every failure is one exception whose reason can be shown."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from comfy_preload.registry.address import Address
from comfy_preload.registry.statement import MAX_BYTES, TTL, Statement, encode

TIMEOUT = 1.0
"""Seconds for one answer."""
MAX_REPLICAS = 500
_AT_ONCE = 50
"""Statements asked for in one round trip at most."""

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
class Exchange:
    """What one exchange found in Redis."""

    others: Mapping[str, bytes]
    own: bytes
    """The statement under our id before we wrote; b'' if there was none."""
    offset: float
    """Redis' clock minus ours, seconds."""


class RedisLink:
    """A connection that is made when it is needed.

    Raises UnavailableError, and ModuleNotFoundError if redis-py is not installed.
    """

    def __init__(self, address: Address, *, timeout: float = TIMEOUT) -> None:
        import redis
        from redis import exceptions
        from redis.backoff import NoBackoff
        from redis.connection import ConnectionPool, parse_url
        from redis.retry import Retry

        self._address = address
        self._timeout = timeout
        self._late = False
        self._errors = exceptions
        self._offset: float | None = None
        ours: dict[str, Any] = {
            "socket_timeout": timeout,
            "socket_connect_timeout": timeout,
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,
            "decode_responses": False,
            "health_check_interval": 0,
        }
        try:
            self._pool = ConnectionPool(**{**parse_url(address.redis), **ours})
        except (ValueError, TypeError, AttributeError):
            raise UnavailableError("cannot be asked: its URL is not valid") from None
        self._redis = redis.Redis(connection_pool=self._pool)

    def exchange(self, own: Statement | None) -> Exchange:
        """Write our statement, unless it is None, and read those of the others."""
        with self._guard():
            offset = self._measure() if self._offset is None else self._offset
            key, index = self._key(self._address.id), self._address.key("replicas")
            stamp = time.time() + offset
            pipe = self._redis.pipeline(transaction=False)
            pipe.getrange(key, 0, MAX_BYTES)
            pipe.zremrangebyscore(index, "-inf", stamp - 10 * TTL)
            pipe.zrevrange(index, 0, MAX_REPLICAS - 1)
            if own is not None:
                pipe.set(key, encode(replace(own, updated=stamp)), px=int(TTL * 1000))
                pipe.zadd(index, {self._address.id: stamp})
            before, _, ids, *_ = pipe.execute()
            entries = self._read([_word(one) for one in ids if one != self._address.id.encode()])
            return Exchange(entries, _bytes(before), self._measure())

    def _read(self, ids: Sequence[str]) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        for start in range(0, len(ids), _AT_ONCE):
            some = ids[start : start + _AT_ONCE]
            pipe = self._redis.pipeline(transaction=False)
            for one in some:
                pipe.getrange(self._key(one), 0, MAX_BYTES)  # never more, whatever was put there
            found.update(zip(some, map(_bytes, pipe.execute(raise_on_error=False)), strict=True))
        return {one: raw for one, raw in found.items() if raw}

    def remove(self, instance: str) -> None:
        """Delete our statement, if it is still ours."""
        with self._guard():
            self._redis.eval(
                _REMOVE,
                2,
                self._key(self._address.id),
                self._address.key("replicas"),
                instance,
                self._address.id,
            )

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self._pool.disconnect()

    def _key(self, replica: str) -> str:
        return self._address.key("replica", replica)

    def _measure(self) -> float:
        """Return Redis' clock minus ours, in seconds."""
        began = time.time()
        seconds, micros = self._redis.time()
        self._offset = _number(seconds) + _number(micros) / 1e6 - (began + time.time()) / 2
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


def _word(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else ""


def _number(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError("not a number")
    return value
