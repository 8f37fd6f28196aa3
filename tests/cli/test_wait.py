"""`wait` asks until /ready is 200, no more often than asked for, and reports what is wrong if it is not."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from comfy_preload.api.queries import answer
from comfy_preload.cli import main
from comfy_preload.cli import wait as command
from comfy_preload.core.errors import problem
from comfy_preload.core.state.snapshot import ModelState, Snapshot, Status
from tests.support.comfy import free_port
from tests.support.snapshots import model, snapshot

LOADING = snapshot(Status.LOADING, model(state=ModelState.LOADING))
READY = snapshot(Status.READY, model())
FAILED = snapshot(Status.FAILED, model(state=ModelState.FAILED))
LATE = snapshot(
    Status.FAILED, model(state=ModelState.LOADING), problems=(problem("timeout", expected="600"),)
)

Answer = Snapshot | web.Response
Serve = Callable[..., Awaitable[str]]
Wait = Callable[..., Awaitable[int]]


class Clock:
    """The command's clock: it stands still except while the command sleeps, which takes no time."""

    def __init__(self) -> None:
        self.sleeps: list[float] = []

    def monotonic(self) -> float:
        return sum(self.sleeps)

    def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(command, "time", made)
    return made


@pytest.fixture
async def asked() -> list[str]:
    """The path of each question."""
    return []


@pytest.fixture
async def serve(asked: list[str]) -> AsyncIterator[Serve]:
    """Our own answers to these states, one after the other, and the last one from then on."""
    servers: list[TestServer] = []

    async def start(*answers: Answer, retry_after: str | None = "0") -> str:
        async def reply(request: web.Request) -> web.Response:
            asked.append(request.path)
            found = answers[min(len(asked), len(answers)) - 1]
            if isinstance(found, web.Response):
                return found
            given = answer(request.rel_url.raw_path, request.rel_url.raw_query_string, found)
            late = {"Retry-After": retry_after} if retry_after is not None and given.status == 503 else {}
            return web.Response(status=given.status, body=given.body, headers={**given.headers, **late})

        app = web.Application()
        app.router.add_get("/{path:.*}", reply)
        server = TestServer(app)
        await server.start_server()
        servers.append(server)
        return str(server.make_url("/"))

    yield start
    for server in servers:
        await server.close()


@pytest.fixture
def wait() -> Wait:
    """The command, beside the server that it asks."""

    async def run(*words: object) -> int:
        return await asyncio.to_thread(main, ["wait", *map(str, words)])

    return run


async def test_until_ready(
    serve: Serve, wait: Wait, asked: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """503 means ask again, 200 means done."""
    url = await serve(LOADING, LOADING, READY)

    assert 0 == await wait(url, "--interval", "0.05")
    assert 3 == len(asked)
    assert capsys.readouterr().out.startswith("ready after ")


async def test_degraded_is_ready(serve: Serve, wait: Wait) -> None:
    """The status code decides."""
    degraded = snapshot(Status.DEGRADED, model(), model("b", ModelState.FAILED, required=False))

    assert 0 == await wait(await serve(degraded))


async def test_once(serve: Serve, wait: Wait, asked: list[str]) -> None:
    """For a health check: one question, whatever the answer."""
    assert 1 == await wait(await serve(LOADING, READY), "--once")
    assert 1 == len(asked)


async def test_failed(serve: Serve, wait: Wait, asked: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A preload that failed does not get better by waiting; the reason is reported."""
    assert 1 == await wait(await serve(LOADING, FAILED), "--interval", "0")
    assert 2 == len(asked)
    assert "sdxl: a.safetensors is empty. " in capsys.readouterr().err


async def test_late(serve: Serve, wait: Wait, asked: list[str]) -> None:
    """Except if all that is wrong is that it takes long."""
    assert 0 == await wait(await serve(LATE, LATE, READY), "--interval", "0")
    assert 3 == len(asked)


async def test_timeout(
    serve: Serve, wait: Wait, asked: list[str], clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ends with 1 when the time is over; the last question comes right then."""
    assert 1 == await wait(await serve(LOADING), "--timeout", "7", "--interval", "2")
    assert [2, 2, 2, 1] == clock.sleeps
    assert 5 == len(asked)
    assert "not ready after 7.0 s" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("header", "pause"), [("4", 4), ("3", 3), ("0", 3), ("Mon, 23 Nov 2026 12:00:00 GMT", 3)]
)
async def test_retry_after(serve: Serve, wait: Wait, clock: Clock, header: str, pause: float) -> None:
    """Retry-After counts where it is longer than --interval."""
    assert 0 == await wait(await serve(LOADING, READY, retry_after=header), "--interval", "3")
    assert [pause] == clock.sleeps


async def test_retry_after_beyond_timeout(serve: Serve, wait: Wait, clock: Clock) -> None:
    """The last question comes when the time is over, not after it."""
    assert 0 == await wait(await serve(LOADING, READY, retry_after="60"), "--timeout", "5")
    assert [5] == clock.sleeps


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(web.Response(status=404, text="404: Not Found"), id="not-found"),
        pytest.param(web.Response(status=502, text="<html>"), id="proxy"),
        pytest.param(web.Response(status=503, text="[1]"), id="list"),
        pytest.param(
            web.Response(status=503, text='{"status": "failed", "failing": {"a": 1}, "progress": []}'),
            id="odd",
        ),
    ],
)
async def test_other_answers(serve: Serve, wait: Wait, answer: web.Response) -> None:
    """A proxy, another server, a body that is none: not ready, and no traceback."""
    assert 1 == await wait(await serve(answer), "--once")


async def test_refused(wait: Wait, clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    """No connection is `not yet`: until the time is over."""
    assert 1 == await wait(f"http://127.0.0.1:{free_port()}", "--timeout", "3", "--interval", "1")
    assert [1, 1, 1] == clock.sleeps
    assert "unreachable" in capsys.readouterr().err


async def test_silent_server(wait: Wait, capsys: pytest.CaptureFixture[str]) -> None:
    """A server that accepts and says nothing counts as unreachable, and does not hold up the command."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert 1 == await wait(f"http://127.0.0.1:{server.getsockname()[1]}", "--timeout", "0.3")
    assert "unreachable" in capsys.readouterr().err


async def test_one_model(serve: Serve, wait: Wait) -> None:
    """The address of one model is asked as it is."""
    url = await serve(READY)

    assert 0 == await wait(f"{url}ready/sdxl", "--once")
    assert 1 == await wait(f"{url}ready/other", "--once")


async def test_json(serve: Serve, wait: Wait, capsys: pytest.CaptureFixture[str]) -> None:
    """One object in the end, nothing else."""
    assert 1 == await wait(await serve(FAILED), "--json")
    shown = capsys.readouterr()
    reported: dict[str, Any] = json.loads(shown.out)

    assert ["ready", "status", "http", "seconds", "failing"] == list(reported)
    assert (False, "failed", 503) == (reported["ready"], reported["status"], reported["http"])
    assert "file_empty" == reported["failing"]["sdxl"]["code"]
    assert "" == shown.err


async def test_quiet(serve: Serve, wait: Wait, capsys: pytest.CaptureFixture[str]) -> None:
    """Only the exit code."""
    assert 1 == await wait(await serve(FAILED), "--quiet")
    assert ("", "") == capsys.readouterr()
