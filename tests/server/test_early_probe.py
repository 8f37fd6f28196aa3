"""`probe.port`.

Answers from the first second, before torch is imported, and the same as the main port afterwards.
"""

from __future__ import annotations

import socket
import time
from typing import Any

import pytest

from comfy_preload.core.state.startup import StartStage
from tests.server.conftest import Comfy
from tests.support.comfy import LOOPBACK, ComfyServer, free_port
from tests.support.readings import CUSTOM_NODES
from tests.support.reply import Reply, ask

pytestmark = pytest.mark.cold

GATED = """
probe: {{port: {port}}}
models:
  - unet: tiny.safetensors
  - {{loader: TestGateLoader, inputs: {{gate: open}}, name: gate}}
"""


def listens(port: int) -> bool:
    with socket.socket() as one:
        one.settimeout(1)
        return one.connect_ex((LOOPBACK, port)) == 0


def start(comfy: Comfy, port: int, text: str, **options: Any) -> ComfyServer:
    server = comfy(preload=text.format(port=port), wait=False, **options)
    server.wait(lambda: listens(port), "answering probes", deadline=30)
    return server


def test_from_the_first_second(comfy: Comfy) -> None:
    """503 starting while torch is imported, loading with progress, ready no sooner than the port is open.

    Alive all the time.
    """
    port = free_port()
    server = start(comfy, port, GATED, custom_nodes={"loaders": CUSTOM_NODES / "loaders"})

    def probe(path: str) -> Reply:
        return ask(f"http://{LOOPBACK}:{port}{path}")

    assert "pytorch version" not in server.log.lower(), "torch is not imported yet"
    assert (503, "starting") == ((first := probe("/ready")).status, first.json["status"])
    assert "importing" == probe("/ready?stages").json["startup"]["stage"]
    seen: dict[str, None] = {}
    while "waiting at gate open" not in server.log:
        assert 200 == probe("/livez").status
        seen[probe("/ready").json["status"]] = None
    assert ["starting", "loading"] == list(seen)
    assert (503, "loading") == (probe("/ready").status, probe("/ready").json["status"])
    assert 1 == probe("/preload").json["models"]["ready"]
    assert "comfyui_preload_ready 0.0" in probe("/preload/metrics").text
    assert not listens(server.port)
    waiting = probe("/ready?stages").json["startup"]
    assert "loading" == waiting["stage"]
    assert waiting["free"]["host"] > 0
    assert all(waiting["seconds"][stage] > 0 for stage in ("starting", "importing", "loading"))

    (server.base / "input" / "open").touch()
    while probe("/ready").status != 200:
        time.sleep(0.005)
    assert listens(server.port), "the probe said ready before ComfyUI listened"
    assert server.get("/ready").json == probe("/ready").json
    over = probe("/ready?stages").json["startup"]
    assert (None, 0, over["total"]) == (
        over["stage"],
        over["left"],
        probe("/ready?stages").json["startup"]["total"],
    )
    assert over["seconds"]["loading"] >= waiting["seconds"]["loading"]
    for stage in StartStage:
        assert 1 == server.log.count(f"startup.{stage.value}: ")
    assert [405, 404] == [
        ask(f"http://{LOOPBACK}:{port}/preload/sleep", method="POST").status,
        probe("/prompt").status,
    ]


def test_without_models(comfy: Comfy) -> None:
    """Nothing to preload, but someone asks: ready when ComfyUI listens."""
    port = free_port()
    server = start(comfy, port, "probe: {{port: {port}}}")
    assert 503 == ask(f"http://{LOOPBACK}:{port}/ready").status
    server.wait_ready()
    assert 200 == ask(f"http://{LOOPBACK}:{port}/ready").status


@pytest.mark.parametrize("own", [True, False])
def test_port_taken(comfy: Comfy, own: bool) -> None:  # noqa: FBT001 — a table's column
    """By someone else, or by ComfyUI itself: one warning, and ComfyUI starts."""
    with socket.socket() as taken:
        taken.bind((LOOPBACK, 0))
        taken.listen()
        port = free_port() if own else taken.getsockname()[1]
        server = comfy(
            preload=f"probe: {{port: {port}}}\nmodels: [{{vae: taesd3}}]", **({"port": port} if own else {})
        )
        server.wait_ready()
        assert 1 == sum("probe" in line and f"port {port}" in line for line in server.log.splitlines())
