"""Owns what these tests ask.

Our routes in a bare aiohttp application, as in ComfyUI, and the early listener; in every state.
"""

from __future__ import annotations

import http.client
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import NamedTuple

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from comfy_preload.api import probe
from comfy_preload.api.probe import Probe
from comfy_preload.api.queries import FleetView
from comfy_preload.api.routes import register
from comfy_preload.core.errors import problem
from comfy_preload.core.state.jobs import Door
from comfy_preload.core.state.snapshot import ModelState, Progress, Snapshot, Status
from tests.support.snapshots import BLOCKED, ENDED, FAULT, OpenDoor, model, snapshot

Client = TestClient[web.Request, web.Application]
Serve = Callable[..., Awaitable[Client]]
Start = Callable[..., Probe]

HERE = "127.0.0.1"
HALF = Progress(bytes=40, bytes_total=100, fraction=0.4, seconds=6.2, eta=8.9)
UNKNOWN_SPEED = Progress(bytes=0, bytes_total=100, fraction=0.0, seconds=0.1, eta=None)

STATES = {
    "starting": (
        snapshot(Status.STARTING, model(state=ModelState.PENDING), progress=UNKNOWN_SPEED, host=None),
        503,
    ),
    "loading": (snapshot(Status.LOADING, model(), model("b", ModelState.LOADING), progress=HALF), 503),
    "warming": (snapshot(Status.WARMING, model()), 503),
    "ready": (snapshot(Status.READY, model()), 200),
    "ready-with-nothing": (snapshot(Status.READY), 200),
    "degraded": (snapshot(Status.DEGRADED, model(), model("b", ModelState.FAILED, required=False)), 200),
    "degraded-without-a-required-one": (
        snapshot(Status.DEGRADED, model(state=ModelState.RELEASED), serves=False),
        503,
    ),
    "served-all-the-same": (snapshot(Status.DEGRADED, model(state=ModelState.FAILED), serves=True), 200),
    "failed": (snapshot(Status.FAILED, model(), model("b", ModelState.FAILED)), 503),
    "sleeping": (snapshot(Status.SLEEPING, model(state=ModelState.EVICTED)), 503),
    "draining": (snapshot(Status.DRAINING, model()), 503),
    "unresponsive": (snapshot(Status.UNRESPONSIVE, model(), unresponsive=BLOCKED, loop_lag=12.0), 503),
    "worker-ended": (snapshot(Status.UNRESPONSIVE, model(), unresponsive=ENDED, fault=ENDED), 503),
    "file-wrong": (
        snapshot(
            Status.FAILED,
            problems=(problem("yaml_syntax", line=2, reason="a tab", suggestion="Indent with spaces."),),
        ),
        503,
    ),
    "device-lost": (snapshot(Status.FAILED, model(), fault=FAULT), 503),
}


def _alone() -> None:
    """No registry, so no fleet."""


def application(
    snapshot: Callable[[], Snapshot], door: Door, fleet: Callable[[], FleetView | None] = _alone
) -> web.Application:
    """Our routes, and again under /api (`PromptServer.add_routes`)."""
    routes = web.RouteTableDef()
    register(routes, snapshot, door, fleet=fleet)
    mirrored = web.RouteTableDef()
    for route in routes:
        assert isinstance(route, web.RouteDef)
        mirrored.route(route.method, "/api" + route.path)(route.handler, **route.kwargs)
    app = web.Application()
    app.add_routes(mirrored)
    app.add_routes(routes)
    return app


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Serves one snapshot; further arguments are the door, to see what is ordered, and the fleet."""
    clients: list[Client] = []

    async def start(
        now: Snapshot, door: Door | None = None, fleet: Callable[[], FleetView | None] = _alone
    ) -> Client:
        client: Client = TestClient(TestServer(application(lambda: now, door or OpenDoor(), fleet)))
        clients.append(client)
        await client.start_server()
        return client

    yield start
    for client in clients:
        await client.close()


class Heard(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a probe on a free port of loopback, or of the addresses given; closed after the test."""
    probes: list[Probe] = []

    def begin(now: Snapshot | None = None, addresses: tuple[str, ...] = (HERE,)) -> Probe:
        probe_ = probe.start(addresses, 0, lambda: now or snapshot(Status.READY, model()))
        assert probe_
        probes.append(probe_)
        return probe_

    yield begin
    for probe_ in probes:
        probe_.close()


def ask(where: Probe, path: str, method: str = "GET") -> Heard:
    connection = http.client.HTTPConnection(*where.addresses[0], timeout=30)
    connection.request(method, path)
    reply = connection.getresponse()
    heard = Heard(reply.status, dict(reply.getheaders()), reply.read())
    connection.close()
    return heard


def say(where: Probe, text: bytes) -> bytes:
    """Send exactly this, and return all that comes until the other end closes."""
    with socket.create_connection(where.addresses[0], timeout=30) as connection:
        connection.sendall(text)
        return hear(connection)


def hear(connection: socket.socket) -> bytes:
    heard = b""
    try:
        while part := connection.recv(65536):
            heard += part
    except ConnectionResetError:  # what we sent was not all read: what came before stays
        pass
    return heard
