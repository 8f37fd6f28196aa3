"""Owns servers that are not Redis, or behave as if they were not."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import threading
from collections.abc import Callable, Iterable, Iterator

Speaker = Callable[[], Iterable[bytes]]


def _drip() -> Iterator[bytes]:
    """A string of half a gigabyte, one byte at a time: no single wait is ever too long."""
    yield b"$500000000\r\n"
    yield from itertools.repeat(b"x")


SPEAKERS: dict[str, Speaker] = {
    "random": lambda: (os.urandom(1000) for _ in range(100)),
    "http": lambda: [b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"] * 10,
    "always-ok": lambda: itertools.repeat(b"+OK\r\n", 1000),
    "numbers": lambda: itertools.repeat(b":7\r\n", 1000),
    "empty-strings": lambda: itertools.repeat(b"$-1\r\n", 1000),
    "lists": lambda: itertools.repeat(b"*2\r\n$1\r\n1\r\n$1\r\n1\r\n", 1000),
    "nested": lambda: [b"*1\r\n" * 100_000],
    "length-negative": lambda: [b"$-5\r\n*-9\r\n"] * 100,
    "length-huge": lambda: [b"*999999999999\r\n$99999999999999\r\n"],
    "error": lambda: [b"-ERR secret.example.org says /etc/passwd\r\n"] * 100,
    "hangs-up": list,
    "drips": _drip,
}


class BrokenServer:
    """Says the same to everyone, whatever is asked.

    `every`: seconds between two pieces; `silent`: nothing, and stays.
    """

    def __init__(self, speak: Speaker, *, every: float = 0.0, silent: bool = False) -> None:
        self._speak = speak
        self._every = every
        self._silent = silent
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._stop = threading.Event()
        self.calls = 0
        self.url = f"redis://:hunter2@127.0.0.1:{self._listener.getsockname()[1]}/0"
        self._threads = [threading.Thread(target=self._run, daemon=True)]
        self._threads[0].start()

    def close(self) -> None:
        self._stop.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(5)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.calls += 1
            self._threads.append(threading.Thread(target=self._talk, args=(connection,), daemon=True))
            self._threads[-1].start()

    def _talk(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.settimeout(5)
            if self._silent:
                self._stop.wait(60)
                return
            connection.recv(10_000)
            for piece in self._speak():
                if self._stop.wait(self._every):
                    return
                connection.sendall(piece)
            self._stop.wait(0.05)
