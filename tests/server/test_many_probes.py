"""Many probes while models are loaded: every one is answered, and no answer is untrue."""

from __future__ import annotations

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection

import pytest

from tests.server.conftest import Comfy
from tests.support.comfy import LOOPBACK, ComfyServer
from tests.support.readings import CUSTOM_NODES, hits

CLIENTS = 8
PRELOAD = """
when: background
models:
  - unet: tiny.safetensors
  - clip: clip_l.safetensors
    type: sd3
  - {loader: TestGateLoader, inputs: {gate: open}, name: gate}
"""
PATHS = (
    "/ready",
    "/ready?verbose",
    "/ready/gate",
    "/livez",
    "/preload",
    "/v2/health/ready",
    "/api/ready",
    "/preload/metrics",
)


def _ask(server: ComfyServer, count: int) -> Counter[tuple[str, int, str]]:
    """Return (path, status, body's status) of each of these probes, sent over one connection."""
    found: Counter[tuple[str, int, str]] = Counter()
    connection = HTTPConnection(LOOPBACK, server.port, timeout=30)
    for number in range(count):
        path = PATHS[number % len(PATHS)]
        connection.request("GET", path)
        answer = connection.getresponse()
        text = answer.read()
        says = "" if path.endswith("metrics") else json.loads(text).get("status", "")
        found[path, answer.status, says] += 1
    connection.close()
    return found


@pytest.mark.parametrize("probes", [800, pytest.param(10_000, marks=pytest.mark.soak)])
def test_while_loading(comfy: Comfy, probes: int) -> None:
    server = comfy(preload=PRELOAD, custom_nodes={"loaders": CUSTOM_NODES / "loaders"})
    server.wait(lambda: "waiting at gate open" in server.log, "at the gate")
    with ThreadPoolExecutor(CLIENTS) as pool:
        found = sum(
            pool.map(lambda _: _ask(server, probes // CLIENTS), range(CLIENTS)),
            Counter[tuple[str, int, str]](),
        )
    assert probes == found.total()
    assert {
        ("/ready", 503, "loading"),
        ("/ready?verbose", 503, "loading"),
        ("/ready/gate", 503, "loading"),
        ("/livez", 200, "alive"),
        ("/preload", 200, "loading"),
        ("/v2/health/ready", 503, ""),
        ("/api/ready", 503, "loading"),
        ("/preload/metrics", 200, ""),
    } == set(found)
    (server.base / "input" / "open").touch()
    server.wait_ready()
    assert {"tiny": 0, "clip_l": 0, "gate": 0} == hits(server)
