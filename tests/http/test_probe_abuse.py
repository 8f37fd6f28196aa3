"""The early listener, over real sockets: nobody can order anything there, and nobody can hold it up."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from comfy_preload.api import probe
from comfy_preload.api.probe import Probe
from comfy_preload.core.state.snapshot import ModelState, Status
from tests.http.conftest import Start, ask, hear, say
from tests.support.snapshots import model, snapshot


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "CONNECT", "TRACE"])
@pytest.mark.parametrize("path", ["/ready", "/preload/reload"])
def test_no_commands(start: Start, path: str, method: str) -> None:
    """No command is ever taken here: 405."""
    heard = ask(start(), path, method)

    assert (405, "GET, HEAD, OPTIONS") == (heard.status, heard.headers["Allow"])


@pytest.mark.parametrize("target", ["/", "*", "/ready", "/livez"])
def test_options(start: Start, target: str) -> None:
    """HAProxy's default check: the listener answers, whatever the state is."""
    heard = ask(start(), target, "OPTIONS")

    assert (200, "GET, HEAD, OPTIONS", b"") == (heard.status, heard.headers["Allow"], heard.body)


def test_body_of_a_stranger(start: Start) -> None:
    """The answer arrives although nobody reads what was sent with the request."""
    answered = say(start(), b"POST /ready HTTP/1.1\r\nContent-Length: 200000\r\n\r\n" + b"x" * 200_000)

    assert answered.startswith(b"HTTP/1.1 405 ")


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b"\r\n\r\n", id="nothing"),
        pytest.param(b"GET\r\n\r\n", id="no-path"),
        pytest.param(b"GET /ready\r\n\r\n", id="no-version"),
        pytest.param(b"GET /ready HTTP/2.0\r\n\r\n", id="another-version"),
        pytest.param(b"get /ready HTTP/1.1\r\n\r\n", id="lower-case"),
        pytest.param(b"GET /a b HTTP/1.1\r\n\r\n", id="blank-in-path"),
        pytest.param(b"GET /\xff HTTP/1.1\r\n\r\n", id="not-ascii"),
        pytest.param(b"GET /\0 HTTP/1.1\r\n\r\n", id="null"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", id="tls"),
        pytest.param(b"G" * 100_000, id="endless-method"),
        pytest.param(b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n", id="endless-path"),
        pytest.param(b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 20_000 + b"\r\n", id="endless-headers"),
    ],
)
def test_garbage(start: Start, text: bytes) -> None:
    """What is not a request is answered with 400, at once, and the next question as ever."""
    where = start()

    assert say(where, text)[:13] in (b"HTTP/1.1 400 ", b"")
    assert 200 == ask(where, "/ready").status


@pytest.mark.parametrize(
    "line", ["GET http://gpu-1:9188/ready HTTP/1.1", "GET /ready#x HTTP/1.0", "GET /ready?a=b&c HTTP/1.1"]
)
def test_other_forms(start: Start, line: str) -> None:
    """A request as sent to a proxy, and an old one, are understood."""
    assert say(start(), f"{line}\r\n\r\n".encode()).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("end", ["\n\n", "\r\n\n", "\n\r\n"])
def test_bare_line_feeds(start: Start, end: str) -> None:
    """Lines may end in LF alone (RFC 9112, 2.2): answered, not waited for."""
    assert say(start(), f"GET /ready HTTP/1.1\nHost: a{end}".encode()).startswith(b"HTTP/1.1 200 ")


def test_slow_client(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who sends a byte now and then is cut off after a while, all the same."""
    monkeypatch.setattr(probe, "CONNECTION_TIMEOUT", 0.3)
    where = start()
    with socket.create_connection(where.addresses[0], timeout=30) as connection:
        ended = threading.Event()

        def drip() -> None:
            try:
                while not ended.wait(0.05):
                    connection.send(b"G")
            except OSError:
                pass

        dripping = threading.Thread(target=drip)
        dripping.start()
        assert b"" == hear(connection)
        ended.set()
        dripping.join()


def test_silent_clients(start: Start) -> None:
    """Who opens connections and says nothing hinders nobody: the oldest make room."""
    where = start()
    silent = [
        socket.create_connection(where.addresses[0], timeout=30) for _ in range(3 * probe.MAX_CONNECTIONS)
    ]
    try:
        assert {200} == {ask(where, "/ready").status for _ in range(10)}
        assert b"" == hear(silent[0])
    finally:
        for connection in silent:
            connection.close()


def test_who_does_not_read(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks for much and reads nothing is cut off."""
    monkeypatch.setattr(probe, "CONNECTION_TIMEOUT", 0.3)
    where = start(snapshot(Status.READY, *(model("m" * 200 + str(i)) for i in range(1000))))
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        connection.connect(where.addresses[0])
        connection.sendall(b"GET /preload HTTP/1.1\r\n\r\n")
        assert 200 == ask(where, "/ready").status
        end = time.monotonic() + 30
        while _established(where) and time.monotonic() < end:
            time.sleep(0.02)
        assert 0 == _established(where)


def _established(where: Probe) -> int:
    return len(where._connections)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] — there is no other way to see it end


def test_at_once(start: Start) -> None:
    """Many at once are all answered, each with the same."""
    where = start(snapshot(Status.LOADING, model("a", ModelState.LOADING)))
    heard: list[int] = []
    threads = [
        threading.Thread(target=lambda: heard.extend(ask(where, "/ready").status for _ in range(20)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [503] * 160 == heard


def test_closing(start: Start) -> None:
    """Closed, it leaves neither port nor thread, also in the middle of a question.

    Closing twice is not a fault.
    """
    where = start()
    with socket.create_connection(where.addresses[0], timeout=30) as connection:
        connection.sendall(b"GET /re")
        where.close()
        assert b"" == hear(connection)
    where.close()

    assert "preload-probe" not in {thread.name for thread in threading.enumerate()}
    with socket.create_server(where.addresses[0]):
        pass
