"""The wire to Redis: a few commands with short time-outs. Whatever goes wrong is one exception with a reason fit to be shown."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from comfy_preload.registry.address import Where
from comfy_preload.registry.statement import MAX_BYTES, TTL, Entry, encode

TIMEOUT = 1.0
"""Seconds for one answer."""
MOST_REPLICAS = 500
_AT_ONCE = 50
"""So many entries are asked for in one go."""

_REMOVE = """
local found = redis.call('GET', KEYS[1])
if found and string.find(found, ARGV[1], 1, true) then
  redis.call('ZREM', KEYS[2], ARGV[2])
  return redis.call('DEL', KEYS[1])
end
return 0"""
_LEASE = """
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
if redis.call('ZSCORE', KEYS[1], ARGV[1]) or redis.call('ZCARD', KEYS[1]) < tonumber(ARGV[2]) then
  redis.call('ZADD', KEYS[1], now + ARGV[3], ARGV[1])
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
  return 1
end
return 0"""


class UnavailableError(Exception):
    """Redis is of no use just now. The message holds no address, password or path, whatever Redis said."""


@dataclass(frozen=True)
class Reading:
    """What was found in Redis in one exchange."""

    entries: Mapping[str, bytes]
    own: bytes
    """What stood under our id before we wrote; b'' if nothing."""
    offset: float
    """Redis' clock minus ours, seconds."""


class Link:
    """A connection that is made when it is needed. Raises UnavailableError, and ModuleNotFoundError if redis-py is not there."""

    def __init__(self, where: Where, *, timeout: float = TIMEOUT) -> None:
        import redis
        from redis import exceptions
        from redis.backoff import NoBackoff
        from redis.connection import ConnectionPool, parse_url
        from redis.retry import Retry

        self._where = where
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
            self._pool = ConnectionPool(**{**parse_url(where.redis), **ours})
        except (ValueError, TypeError, AttributeError):
            raise UnavailableError("cannot be asked: its URL is not valid") from None
        self._redis = redis.Redis(connection_pool=self._pool)

    def ping(self) -> None:
        with self._guard():
            self._measure()

    def exchange(self, own: Entry | None) -> Reading:
        """Tell the fleet of us, unless that is None, and find out who else is there."""
        with self._guard():
            offset = self._measure() if self._offset is None else self._offset
            key, index = self._key(self._where.id), self._where.key("replicas")
            stamp = time.time() + offset
            pipe = self._redis.pipeline(transaction=False)
            pipe.getrange(key, 0, MAX_BYTES)
            pipe.zremrangebyscore(index, "-inf", stamp - 10 * TTL)
            pipe.zrevrange(index, 0, MOST_REPLICAS - 1)
            if own is not None:
                pipe.set(key, encode(replace(own, updated=stamp)), px=int(TTL * 1000))
                pipe.zadd(index, {self._where.id: stamp})
            before, _, ids, *_ = pipe.execute()
            entries = self._read([_word(one) for one in ids if one != self._where.id.encode()])
            return Reading(entries, _bytes(before), self._measure())

    def _read(self, ids: Sequence[str]) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        for start in range(0, len(ids), _AT_ONCE):
            some = ids[start : start + _AT_ONCE]
            pipe = self._redis.pipeline(transaction=False)
            for one in some:
                pipe.getrange(self._key(one), 0, MAX_BYTES)  # never more, whatever somebody has put there
            found.update(zip(some, map(_bytes, pipe.execute(raise_on_error=False)), strict=True))
        return {one: raw for one, raw in found.items() if raw}

    def remove(self, instance: str) -> None:
        """Take our entry away, if it is still ours."""
        with self._guard():
            self._redis.eval(
                _REMOVE, 2, self._key(self._where.id), self._where.key("replicas"), instance, self._where.id
            )

    def lease(self, key: str, token: str, limit: int, ttl: float) -> bool:
        """Take or renew one of `limit` leases."""
        with self._guard():
            return bool(_number(self._redis.eval(_LEASE, 1, key, token, str(limit), str(int(ttl * 1000)))))

    def release(self, key: str, token: str) -> None:
        """Give the lease back. Only its own token can."""
        with self._guard():
            self._redis.zrem(key, token)

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self._pool.disconnect()

    def _key(self, replica: str) -> str:
        return self._where.key("replica", replica)

    def _measure(self) -> float:
        """Redis' clock minus ours."""
        began = time.time()
        seconds, micros = self._redis.time()
        self._offset = _number(seconds) + _number(micros) / 1e6 - (began + time.time()) / 2
        return self._offset

    @contextlib.contextmanager
    def _guard(self) -> Iterator[None]:
        """All of it within a few time-outs, also if somebody sends one byte at a time."""
        self._late = False
        watch = threading.Timer(4 * self._timeout, self._cut)
        watch.daemon = True
        watch.start()
        try:
            yield
        except Exception as error:  # noqa: BLE001 — whatever is sent by what calls itself Redis, it ends here
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
                "refuses the password, or wants one",
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
            return "refuses the password, or wants one"
        found = next((reason for kind, reason in table if isinstance(error, kind)), None)
        if found is None and isinstance(error, kinds.ConnectionError | OSError):
            return "cannot be reached"
        return found or "answers with something else than Redis' protocol"


def _bytes(value: Any) -> bytes:
    """An answer that is none of ours counts as nothing: a key of another type, say."""
    return value if isinstance(value, bytes) else b""


def _word(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else ""


def _number(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError("no number")
    return value
