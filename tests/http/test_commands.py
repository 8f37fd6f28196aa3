"""POST /preload/…: what is taken, what is refused and how, over real connections."""

from __future__ import annotations

import asyncio
import gzip
import json
from typing import Any

import pytest

from comfy_preload.api import access
from comfy_preload.api.routes import MAX_BYTES
from comfy_preload.core.state.jobs import Command
from comfy_preload.core.state.snapshot import Status
from tests.http.conftest import Client, Serve
from tests.support.snapshots import OpenDoor, model, snapshot

READY = snapshot(Status.READY, model("a"), model("b"))
JSON = {"Content-Type": "application/json"}
TOKEN = "s3crét"  # noqa: S105 — of these tests
BEARER = {"Authorization": f"Bearer {TOKEN}"}
LARGE = json.dumps({"model": "a" * MAX_BYTES}).encode()
HEAD = (
    b"POST /preload/reload HTTP/1.1\r\nHost: localhost\r\n"
    b"Connection: close\r\nContent-Type: application/json\r\n"
)
COMMANDS = [command.value for command in Command]


@pytest.fixture
def door() -> OpenDoor:
    return OpenDoor("a", "b")


@pytest.fixture
async def client(serve: Serve, door: OpenDoor, monkeypatch: pytest.MonkeyPatch) -> Client:
    monkeypatch.setenv(access.TOKEN_VARIABLE, TOKEN)
    return await serve(READY, door)


async def send(client: Client, text: bytes) -> bytes:
    """Say exactly this, and return the head of the answer.

    Aiohttp waits for the rest of a body before it closes.
    """
    reader, writer = await asyncio.open_connection(client.host, client.port)
    writer.write(text)
    await writer.drain()
    answered = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
    writer.close()
    return answered


@pytest.mark.parametrize("prefix", ["", "/api"], ids=["plain", "api"])
@pytest.mark.parametrize("command", COMMANDS)
async def test_taken(client: Client, door: OpenDoor, command: str, prefix: str) -> None:
    """A command is ordered, and answered with the job and where to ask for it: 202."""
    reply = await client.post(f"{prefix}/preload/{command}")
    body = await reply.json()

    assert [(Command(command), None)] == [(job.command, job.model) for job in door.jobs]
    assert (202, f"{prefix}/preload/jobs/0") == (reply.status, reply.headers["Location"])
    assert ("0", command, "queued", None) == (body["id"], body["command"], body["state"], body["model"])
    assert "no-store" == reply.headers["Cache-Control"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("/comfy", "/comfy/api/preload/jobs/0"),
        ("/a/b-1/", "/a/b-1/api/preload/jobs/0"),
        *((odd, "/api/preload/jobs/0") for odd in ("", "/", "//evil.example", "/a b", "http://evil", "/a?b")),
    ],
)
async def test_behind_a_prefix(client: Client, given: str, expected: str) -> None:
    """A prefix that a proxy took off the path is in the job's address again; nothing odd is repeated."""
    reply = await client.post("/api/preload/wake", headers={"X-Forwarded-Prefix": given, **BEARER})

    assert (202, expected) == (reply.status, reply.headers["Location"])


@pytest.mark.parametrize("command", ["reload", "release"])
async def test_one_model(client: Client, door: OpenDoor, command: str) -> None:
    """Reload and release can be for one model."""
    reply = await client.post(f"/preload/{command}", json={"model": "b"})

    assert (202, "b") == (reply.status, (await reply.json())["model"])
    assert ["b"] == [job.model for job in door.jobs]


@pytest.mark.parametrize("kind", ["application/json", "application/json; charset=utf-8", "Application/JSON"])
@pytest.mark.parametrize("data", [b"", b"{}"], ids=["nothing", "empty"])
async def test_all_models(client: Client, door: OpenDoor, kind: str, data: bytes) -> None:
    """No body, or an empty mapping, means all of them."""
    reply = await client.post("/preload/release", data=data, headers={"Content-Type": kind})

    assert (202, [None]) == (reply.status, [job.model for job in door.jobs])


WRONG_BODIES: dict[str, tuple[str, bytes, dict[str, str], int, str]] = {
    "not-json": ("reload", b"{", JSON, 400, "bad_request"),
    "not-utf8": ("reload", b'{"model": "\xff"}', JSON, 400, "bad_request"),
    "list": ("reload", b'["a"]', JSON, 400, "bad_request"),
    "text": ("reload", b'"a"', JSON, 400, "bad_request"),
    "null": ("reload", b"null", JSON, 400, "bad_request"),
    "number": ("reload", b"0", JSON, 400, "bad_request"),
    "null-model": ("release", b'{"model": null}', JSON, 400, "bad_request"),
    "empty-model": ("release", b'{"model": ""}', JSON, 400, "bad_request"),
    "model-of-another-type": ("release", b'{"model": ["a"]}', JSON, 400, "bad_request"),
    "another-key": ("release", b'{"model": "a", "force": true}', JSON, 400, "bad_request"),
    "only-another-key": ("release", b'{"name": "a"}', JSON, 400, "bad_request"),
    "model-to-sleep": ("sleep", b'{"model": "a"}', JSON, 400, "bad_request"),
    "model-to-wake": ("wake", b'{"model": "a"}', JSON, 400, "bad_request"),
    "deep": ("reload", b"[" * 60_000, JSON, 400, "bad_request"),
    "long-number": ("reload", b"9" * 60_000, JSON, 400, "bad_request"),
    "unknown-model": ("reload", b'{"model": "c"}', JSON, 404, "model_unknown"),
    "half-a-character": ("reload", b'{"model": "\\ud800"}', JSON, 404, "model_unknown"),
    "too-large": ("reload", LARGE, JSON, 413, "bad_request"),
    "form": ("reload", b"model=a", {"Content-Type": "application/x-www-form-urlencoded"}, 415, "bad_request"),
    "form-that-looks-like-json": (
        "reload",
        b'{"model": "a"}',
        {"Content-Type": "text/plain"},
        415,
        "bad_request",
    ),
    "compressed": ("reload", gzip.compress(b"{}"), {**JSON, "Content-Encoding": "gzip"}, 415, "bad_request"),
}


@pytest.mark.parametrize("wrong", WRONG_BODIES.values(), ids=list(WRONG_BODIES))
async def test_wrong_body(
    client: Client, door: OpenDoor, wrong: tuple[str, bytes, dict[str, str], int, str]
) -> None:
    """What cannot be used is refused with code, message and hint, and nothing is ordered."""
    command, data, headers, status, code = wrong
    reply = await client.post(f"/preload/{command}", data=data, headers=headers)
    body = await reply.json()

    assert (status, code) == (reply.status, body["error"]["code"])
    assert {"code", "message", "hint"} == body["error"].keys()
    assert [] == door.jobs


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        pytest.param("Content-Length: 99999999\r\n", b"", 413, id="a-large-body-is-announced"),
        pytest.param(
            "Transfer-Encoding: chunked\r\n",
            b"10000\r\n" + b" " * 65536 + b"\r\n1\r\n \r\n0\r\n\r\n",
            413,
            id="chunks",
        ),
        pytest.param("Transfer-Encoding: chunked\r\n", b"x\r\n\r\n", 400, id="chunks-of-garbage"),
    ],
)
async def test_body_is_bounded(
    client: Client, door: OpenDoor, headers: str, body: bytes, status: int
) -> None:
    """No more than 64 KiB are read, however the body comes; what is only announced is not waited for."""
    answered = await send(client, HEAD + headers.encode() + b"\r\n" + body)

    assert str(status).encode() == answered.split()[1]
    assert [] == door.jobs


async def test_slow_body(client: Client, door: OpenDoor, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body that never comes is given up: 408."""
    monkeypatch.setattr("comfy_preload.api.routes.BODY_TIMEOUT", 0.1)
    answered = await send(client, HEAD + b"Content-Length: 10\r\n\r\n{")

    assert answered.startswith(b"HTTP/1.1 408 ")
    assert [] == door.jobs


async def test_type_is_wanted(client: Client) -> None:
    """A body without a type is refused: every form of a page has one, JSON needs one."""
    head = (
        b"POST /preload/reload HTTP/1.1\r\nHost: localhost\r\n"
        b"Connection: close\r\nContent-Length: 2\r\n\r\n{}"
    )

    assert (await send(client, head)).startswith(b"HTTP/1.1 415 ")


async def test_too_early(serve: Serve) -> None:
    """While models are being loaded a command is refused, with the time after which to try again."""
    reply = await (await serve(snapshot(Status.LOADING), OpenDoor(settled=False))).post("/preload/reload")

    assert (409, "command_too_early", "5") == (
        reply.status,
        (await reply.json())["error"]["code"],
        reply.headers["Retry-After"],
    )


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
async def test_only_post(client: Client, door: OpenDoor, method: str, command: str) -> None:
    """A link, a picture or a prefetching browser orders nothing."""
    assert 405 == (await client.request(method, f"/preload/{command}")).status
    assert [] == door.jobs


STRANGE: dict[str, dict[str, str]] = {
    "dns-rebinding": {
        "Host": "evil.example",
        "Origin": "http://evil.example",
        "Sec-Fetch-Site": "same-origin",
    },
    "cross-site-form": {"Origin": "https://evil.example", "Content-Type": "text/plain"},
    "sandboxed-form": {"Origin": "null", "Content-Type": "text/plain"},
    "cross-site-fetch": {"Sec-Fetch-Site": "cross-site"},
    "host-trick": {"Host": "localhost@evil"},
    "proxy": {"X-Forwarded-For": "10.0.0.7"},
    "wrong-token-through-proxy": {"X-Forwarded-For": "10.0.0.7", "Authorization": "Bearer wrong"},
}


@pytest.mark.parametrize("prefix", ["", "/api"], ids=["plain", "api"])
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("headers", STRANGE.values(), ids=list(STRANGE))
async def test_strangers(
    client: Client, door: OpenDoor, headers: dict[str, str], command: str, prefix: str
) -> None:
    """Who is not from here and has no token, or another one, gets 401, before the body is looked at."""
    reply = await client.post(f"{prefix}/preload/{command}", headers=headers, data=LARGE)
    body = await reply.json()

    assert (401, "command_refused") == (reply.status, body["error"]["code"])
    assert 'Bearer realm="comfy-preload"' == reply.headers["WWW-Authenticate"]
    assert TOKEN not in await reply.text()
    assert [] == door.jobs


@pytest.mark.parametrize("headers", STRANGE.values(), ids=list(STRANGE))
async def test_token(client: Client, door: OpenDoor, headers: dict[str, str]) -> None:
    """With the token any of them is let in."""
    usable = {name: value for name, value in headers.items() if name != "Content-Type"}
    reply = await client.post("/preload/reload", headers={**usable, **BEARER})

    assert (202, 1) == (reply.status, len(door.jobs))


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param("POST /preload/reload HTTP/1.0\r\nHost: localhost\r\n", id="a-proxy-without-headers"),
        pytest.param(
            "POST /preload/reload HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n", id="two-hosts"
        ),
        pytest.param("POST /preload/reload HTTP/1.1\r\nHost:\r\n", id="no-host"),
    ],
)
async def test_odd_requests(client: Client, door: OpenDoor, lines: str) -> None:
    """What no honest client on this machine sends is refused."""
    answered = await send(client, f"{lines}Connection: close\r\n\r\n".encode())

    assert answered[9:12] in (b"400", b"401")
    assert [] == door.jobs


async def test_rate(client: Client, door: OpenDoor) -> None:
    """Commands beyond the limit per minute are refused, with the time to wait."""
    codes = [(await client.post("/preload/wake")).status for _ in range(access.MAX_COMMANDS_PER_MINUTE + 20)]
    reply = await client.post("/preload/wake")

    assert 202 == codes[access.MAX_COMMANDS_PER_MINUTE - 1]
    assert (429, "too_many_commands", "1") == (
        reply.status,
        (await reply.json())["error"]["code"],
        reply.headers["Retry-After"],
    )
    assert len(door.jobs) == codes.count(202)


async def test_flood_of_wrong_tokens(client: Client, door: OpenDoor) -> None:
    """A flood of wrong tokens is slowed down, and does not lock out the right one."""
    wrong: dict[str, Any] = {"Host": "gpu-1", "Authorization": "Bearer wrong"}
    codes = [
        (await client.post("/preload/reload", headers=wrong)).status
        for _ in range(access.MAX_REFUSALS_PER_MINUTE + 20)
    ]

    assert [401, 429] == [codes[access.MAX_REFUSALS_PER_MINUTE - 1], codes[-1]]
    assert 202 == (await client.post("/preload/reload", headers={"Host": "gpu-1", **BEARER})).status
    assert 1 == len(door.jobs)
