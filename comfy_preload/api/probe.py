"""The early probe: answers GET requests on its own port, from the first second until the process ends.

Standard library only, so that it can start before torch is imported. It accepts no commands. One thread
serves all clients; a client that is slow, sends garbage or does not read is disconnected and does not delay
others.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from http import HTTPStatus
from urllib.parse import urlsplit

from comfy_preload.api.queries import ALLOW, Answer, FleetView, Headers, answer, error, options
from comfy_preload.core.errors import problem
from comfy_preload.core.log import log
from comfy_preload.core.state.snapshot import Snapshot

MAX_HEAD = 8 << 10
"""Maximum bytes of request line and headers."""
CONNECTION_TIMEOUT = 5.0
"""Maximum seconds of one connection."""
LINGER = 0.5
"""Seconds to keep reading after the response: closing while the client still sends could discard the
response."""
MAX_CONNECTIONS = 64
"""Maximum open connections; beyond it the oldest is closed."""

_END = re.compile(rb"\r?\n\r?\n")
_LINE = re.compile(rb"([A-Z]{1,20}) ([\x21-\x7e]+) HTTP/1\.[01]\r?")


class Probe:
    """A running listener. `snapshot` and `fleet` are called for each request and may be replaced."""

    def __init__(self, sockets: Sequence[socket.socket], snapshot: Callable[[], Snapshot]) -> None:
        self.snapshot = snapshot
        self.fleet: Callable[[], FleetView | None] = lambda: None
        self.addresses: tuple[tuple[str, int], ...] = tuple(
            (s.getsockname()[0], s.getsockname()[1]) for s in sockets
        )
        self._sockets = sockets
        self._connections: dict[asyncio.Task[None], None] = {}
        """Open connections, in order of arrival."""
        self._loop = asyncio.new_event_loop()
        self._closed = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="preload-probe", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening and return when the ports are free. May be called again."""
        with suppress(RuntimeError):  # already closed
            self._loop.call_soon_threadsafe(self._closed.set)
        self._thread.join()

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._listen())
        finally:
            self._loop.close()

    async def _listen(self) -> None:
        servers = [
            await asyncio.start_server(self._accept, sock=one, limit=MAX_HEAD) for one in self._sockets
        ]
        await self._closed.wait()
        while others := asyncio.all_tasks() - {
            asyncio.current_task()
        }:  # asyncio must not be inside an accept
            for connection in self._connections:
                connection.cancel()
            await asyncio.wait(others)
        for server in servers:
            server.close()
        await asyncio.sleep(0)  # the loop closes connections one iteration later

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or self._closed.is_set():
            writer.transport.abort()
            return
        if len(self._connections) >= MAX_CONNECTIONS:
            next(iter(self._connections)).cancel()
        self._connections[task] = None
        try:
            await asyncio.wait_for(self._serve(reader, writer), CONNECTION_TIMEOUT)
        except (OSError, asyncio.TimeoutError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client has gone or was too slow
        except Exception:  # noqa: BLE001 — the next request may succeed
            log.exception("probe: a request failed")
        finally:
            del self._connections[task]
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await _head(reader)
        writer.write(self._reply(head))
        writer.write_eof()
        await writer.drain()
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(_read_off(reader), LINGER)

    def _reply(self, head: bytes) -> bytes:
        found = _LINE.fullmatch(head.partition(b"\n")[0])
        if not found:
            wrong = problem("path_unknown", found="an invalid request", expected="GET or HEAD")
            return _http(error(wrong, status=400))
        method, target = found[1].decode(), found[2].decode()
        if method == "OPTIONS":
            return _http(options())
        if method not in ("GET", "HEAD"):
            wrong = problem("path_unknown", found=f"the method {method}", expected="GET or HEAD")
            return _http(error(wrong, {"Allow": ALLOW}, status=405))
        path, _, query = target.partition("#")[0].partition("?")
        if not path.startswith("/"):  # as sent to a proxy
            with suppress(ValueError):
                path = urlsplit(path).path
        given = answer(path, query, self.snapshot(), self.fleet(), _headers(head))
        return _http(given, with_body=method == "GET")


def start(addresses: Sequence[str], port: int, snapshot: Callable[[], Snapshot]) -> Probe | None:
    """Listen on every address that can be opened.

    If none can, log a warning and return None. Never raises.
    """
    sockets: list[socket.socket] = []
    failed: list[str] = []
    for address in addresses:
        try:
            sockets += _bound(address, port)
        except (OSError, UnicodeError, OverflowError) as wrong:
            reason = wrong.strerror if isinstance(wrong, OSError) else None
            failed.append(f"{address} ({reason or type(wrong).__name__})")
        port = port or (sockets[0].getsockname()[1] if sockets else 0)
    if failed:
        left = (
            "continuing with the other addresses"
            if sockets
            else "no early answers; choose another probe.port"
        )
        log.warning("probe: port %d cannot be opened on %s: %s", port, ", ".join(failed), left)
    return Probe(sockets, snapshot) if sockets else None


def _bound(address: str, port: int) -> list[socket.socket]:
    """Open a socket for each address of the name; raise OSError if one cannot be opened."""
    found: list[socket.socket] = []
    try:
        for family, _, _, _, where in socket.getaddrinfo(
            address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            found.append(_listening(family, (str(where[0]), int(where[1]))))
    except BaseException:
        for listener in found:
            listener.close()
        raise
    return found


def _listening(family: int, where: tuple[str, int]) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":  # on Windows it would share the port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:  # so that 0.0.0.0 and :: can both listen
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(where)
        listener.listen(128)
    except BaseException:
        listener.close()
        raise
    return listener


async def _head(reader: asyncio.StreamReader) -> bytes:
    """Return the head of a request with its empty line; a lone LF ends a line too (RFC 9112, 2.2).

    Return nothing if it is longer than MAX_HEAD. Raise IncompleteReadError if the client stops early.
    """
    head = b""
    while not (end := _END.search(head)) and len(head) < MAX_HEAD:
        part = await reader.read(MAX_HEAD - len(head))
        if not part:
            raise asyncio.IncompleteReadError(head, None)
        head += part
    return head[: end.end()] if end else b""


def _headers(head: bytes) -> Headers:
    found: dict[str, list[str]] = {"accept": [], "authorization": []}
    for line in head.splitlines()[1:]:
        name, colon, value = line.decode("utf-8", "surrogateescape").partition(":")
        if colon and name.lower() in found:
            found[name.lower()].append(value.strip())
    return Headers(", ".join(found["accept"]), tuple(found["authorization"]))


async def _read_off(reader: asyncio.StreamReader) -> None:
    while await reader.read(MAX_HEAD):
        pass


def _http(given: Answer, *, with_body: bool = True) -> bytes:
    lines = [
        f"HTTP/1.1 {given.status} {HTTPStatus(given.status).phrase}",
        *(f"{name}: {value}" for name, value in given.headers.items()),
        f"Content-Length: {len(given.body)}",
        "Connection: close",
    ]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (given.body if with_body else b"")
