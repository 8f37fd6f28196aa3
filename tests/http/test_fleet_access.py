"""`registry.access`: who may ask for the fleet, on ComfyUI's port and on the early probe."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from comfy_preload.api import access
from comfy_preload.core.state.snapshot import Status
from tests.http.conftest import Serve, Start, say
from tests.support.snapshots import snapshot

PATHS = ("/preload/replicas", "/preload/locate?model=a")
TOKEN = "s3crét"  # noqa: S105 — of these tests
SECRET = "10.0.0.7"  # noqa: S105 — an address


@dataclass
class Known:
    """A fleet with something that strangers need not know."""

    guarded: bool
    connected: bool = True

    def listing(self) -> dict[str, Any]:
        return {"replicas": [SECRET]}

    def locate(self, wanted: Sequence[Collection[str]]) -> dict[str, Any]:
        return {"replicas": [SECRET for _ in wanted]}


async def on_both(
    serve: Serve, start: Start, path: str, known: Known, *given: str
) -> list[tuple[int, str, str]]:
    """Ask ComfyUI's port and the probe: status, WWW-Authenticate and body of each."""
    client = await serve(snapshot(Status.READY), fleet=lambda: known)
    reply = await client.get(path, headers=[("Authorization", value) for value in given])
    found = [(reply.status, reply.headers.get("WWW-Authenticate", ""), await reply.text())]

    probe = start(snapshot(Status.READY))
    probe.fleet = lambda: known
    lines = [f"GET {path} HTTP/1.1", *(f"authorization:  {value}" for value in given), "", ""]
    head, _, body = say(probe, "\r\n".join(lines).encode()).decode().partition("\r\n\r\n")
    challenge = [line.partition(": ")[2] for line in head.split("\r\n") if line.startswith("WWW-Auth")]
    return [*found, (int(head.split()[1]), "".join(challenge), body)]


@pytest.mark.parametrize("path", PATHS)
async def test_open(serve: Serve, start: Start, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By default anyone who reaches a port may ask."""
    monkeypatch.setenv(access.TOKEN_VARIABLE, TOKEN)

    for status, _, body in await on_both(serve, start, path, Known(guarded=False)):
        assert (200, True) == (status, SECRET in body)


@pytest.mark.parametrize("given", [(), ("Bearer wrong",), (f"Bearer {TOKEN}",) * 2, (f"Basic {TOKEN}",)])
@pytest.mark.parametrize("path", PATHS)
async def test_refused(
    serve: Serve, start: Start, path: str, given: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the token 401, with what is to be sent; also from this machine."""
    monkeypatch.setenv(access.TOKEN_VARIABLE, TOKEN)

    for status, challenge, body in await on_both(serve, start, path, Known(guarded=True), *given):
        assert (401, 'Bearer realm="comfy-preload"') == (status, challenge)
        assert "fleet_refused" == json.loads(body)["error"]["code"]
        assert SECRET not in body


@pytest.mark.parametrize("path", PATHS)
async def test_no_token(serve: Serve, start: Start, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no token is set none would open: 403."""
    monkeypatch.delenv(access.TOKEN_VARIABLE, raising=False)

    for status, challenge, body in await on_both(serve, start, path, Known(guarded=True), "Bearer "):
        assert (403, "") == (status, challenge)
        assert SECRET not in body


async def test_rotation(serve: Serve, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the token of the file; a new one counts at once."""
    file = tmp_path / "token"
    monkeypatch.setenv(access.TOKEN_FILE_VARIABLE, str(file))
    for token in (TOKEN, "another"):
        file.write_text(f"{token}\n", encoding="utf-8")
        for status, _, body in await on_both(serve, start, PATHS[0], Known(guarded=True), f"Bearer {token}"):
            assert (200, True) == (status, SECRET in body)
