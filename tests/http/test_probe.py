"""The early listener, over real sockets: the same answers as on ComfyUI's port."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest

from comfy_preload.api import probe
from comfy_preload.core.state.snapshot import Snapshot, Status
from tests.http.conftest import HERE, Serve, Start, ask, hear, say
from tests.support.snapshots import FAULT, full, model, snapshot

ROOT = Path(__file__).resolve().parents[2]
NAMES = [
    "sd_xl_base_1.0",
    "模型 ä",
    "50% off",
    "a b",
    "a?b#c&d=e",
    "a%2Fb",
    "clip_l+t5",
    "..a",
    "..",
    "models[0]",
    "'\";<b>",
    "{x}",
]


@pytest.mark.parametrize("prefix", ["", "/api"], ids=["plain", "api"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    "path",
    [
        *(
            "/ready",
            "/ready?verbose",
            "/ready?x&verbose=1",
            "/ready?verbosely",
            "/ready/m",
            "/ready/n",
            "/ready/nobody",
            "/livez",
        ),
        *(
            "/ready/%6d",
            "/re%61dy",
            "/ready/m%2Fn",
            "/ready/%ff",
            "/preload",
            "/preload/jobs/1",
            "/preload/jobs/nobody",
            "/preload/explain/1",
            "/preload/explain/nobody",
        ),
        *("/v2/health/live", "/v2/health/ready", "/v2/models/n/ready", "/v2/models/nobody/ready"),
    ],
)
async def test_same_as_comfyui(serve: Serve, start: Start, path: str, method: str, prefix: str) -> None:
    """Both ports give the same status, the same headers and the same body."""
    reply = await (await serve(full())).request(method, prefix + path)
    heard = ask(start(full()), prefix + path, method)

    transport = {"Date", "Server", "Connection"}
    assert (reply.status, await reply.read()) == (heard.status, heard.body)
    assert {k: v for k, v in reply.headers.items() if k not in transport} == {
        k: v for k, v in heard.headers.items() if k not in transport
    }


@pytest.mark.parametrize("name", NAMES)
async def test_odd_names(serve: Serve, start: Start, name: str) -> None:
    """Any name but one with '/' can be asked for, percent-encoded, on both ports."""
    now = snapshot(Status.READY, model(name))
    path = f"/ready/{quote(name, safe='')}"
    if name not in (".", ".."):  # which clients take for folders
        assert 200 == (await (await serve(now)).get(path)).status
    assert 200 == ask(start(now), path).status


def test_metrics(start: Start) -> None:
    """Metrics are there too."""
    heard = ask(start(full()), "/preload/metrics")

    assert (200, "text/plain; version=0.0.4; charset=utf-8") == (heard.status, heard.headers["Content-Type"])
    assert b"comfyui_preload_ready 0.0" in heard.body


@pytest.mark.parametrize(
    "path",
    ["/", "/ready/", "/api", "/apiready", "/api/api/ready", "//ready", "/system_stats", "/preload/jobs/"],
)
def test_nothing_else(start: Start, path: str) -> None:
    """Any other path is 404, with code, message and hint."""
    heard = ask(start(), path)

    assert 404 == heard.status
    assert b'"path_unknown"' in heard.body


def test_snapshot_is_asked_anew(start: Start) -> None:
    """The story goes on: what it is asked can be replaced, and is asked at each question."""
    where = start(snapshot(Status.STARTING))
    assert (503, 200) == (ask(where, "/ready").status, ask(where, "/livez").status)
    where.snapshot = lambda: snapshot(Status.READY)
    assert 200 == ask(where, "/ready").status
    where.snapshot = lambda: snapshot(Status.FAILED, fault=FAULT)
    assert (503, 503) == (ask(where, "/ready").status, ask(where, "/livez").status)


def test_fault_of_ours(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    """A question that cannot be answered is logged, and the next one is answered."""
    where = start()
    kept = where.snapshot

    def fail() -> Snapshot:
        raise LookupError("gone")

    where.snapshot = fail
    assert b"" == say(where, b"GET /ready HTTP/1.1\r\n\r\n")
    where.snapshot = kept
    assert 200 == ask(where, "/ready").status
    assert "probe: a request failed" in caplog.text


def test_port_taken(caplog: pytest.LogCaptureFixture) -> None:
    """A port that is taken costs one warning, and nothing else."""
    with socket.create_server((HERE, 0)) as other:
        port = other.getsockname()[1]
        assert None is probe.start([HERE], port, snapshot)

    (line,) = caplog.records
    assert ("WARNING", True) == (line.levelname, f"port {port}" in line.getMessage())


@pytest.mark.parametrize("address", ["nowhere.invalid", "256.1.1.1", "a" * 300, "192.0.2.1"])
def test_address_that_is_none(caplog: pytest.LogCaptureFixture, address: str) -> None:
    """So does an address that this machine has not."""
    assert None is probe.start([address], 0, snapshot)
    assert 1 == len(caplog.records)


def test_some_addresses(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    """With one of two addresses it goes on, and says so."""
    where = start(addresses=(HERE, "192.0.2.1"))

    assert [HERE] == [address for address, _ in where.addresses]
    assert 200 == ask(where, "/ready").status
    assert 1 == len(caplog.records)


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no IPv6 here")
def test_both_families(start: Start) -> None:
    """ComfyUI's `--listen` without a value means 0.0.0.0 and ::, one port on both."""
    where = start(addresses=("0.0.0.0", "::"))  # noqa: S104 — as ComfyUI has it
    ((_, port), (_, other)) = where.addresses

    assert port == other
    for address in (HERE, "::1"):
        with socket.create_connection((address, port), timeout=30) as connection:
            connection.sendall(b"GET /livez HTTP/1.1\r\n\r\n")
            assert hear(connection).startswith(b"HTTP/1.1 200 ")


CHILD = """
import sys, types, urllib.request
sys.path.insert(0, sys.argv[1])
from comfy_preload.api import probe
from comfy_preload.core.state.residency import Residency
from comfy_preload.core.state.readiness import Readiness
readiness = Readiness(Residency(repair=lambda _: None, usable=lambda _: ""), lambda _: None)
running = probe.start(["127.0.0.1"], 0, readiness.snapshot)
for path in sys.argv[2:]:
    try:
        urllib.request.urlopen("http://%s:%d%s" % (*running.addresses[0], path)).read()
    except urllib.error.HTTPError as error:
        error.close()
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


def imported(*paths: str) -> set[str]:
    """Top-level modules in a fresh interpreter that has answered these questions."""
    command = [sys.executable, "-I", "-c", CHILD, str(ROOT), *paths]
    return set(subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.split())


def test_light() -> None:
    """It needs none of what takes long to import, and prometheus_client only for metrics."""
    paths = ("/ready", "/ready?verbose", "/ready/x", "/livez", "/preload", "/v2/health/ready", "/nothing")
    heavy = {"aiohttp", "pydantic", "torch", "numpy", "prometheus_client"}

    assert set() == imported(*paths) & heavy
    assert {"prometheus_client"} == imported("/preload/metrics") & heavy
