"""`when: background`: the port opens at once, /ready reports how far it is, prompts wait and hit.

And a loader that hangs.
"""

from __future__ import annotations

import socket

from tests.server.conftest import Comfy
from tests.support import prompts
from tests.support.comfy import LOOPBACK, ComfyServer
from tests.support.readings import CUSTOM_NODES, hits, misses, own_lines, rows

LOADERS = {"loaders": CUSTOM_NODES / "loaders"}
UNET = prompts.load("UNETLoader", unet_name="tiny.safetensors", weight_dtype="default")
VAE = prompts.load("VAELoader", vae_name="taesd3")
BACKGROUND = """
when: background
timeout: 100
models:
  - unet: tiny.safetensors
  - {loader: TestGateLoader, inputs: {gate: open, heeds_cancel: true}, name: gate}
  - vae: taesd3
"""
HANGING = """
timeout: 1
models:
  - unet: tiny.safetensors
  - {loader: TestGateLoader, inputs: {gate: open}, name: gate}
  - vae: taesd3
"""


def _at_gate(server: ComfyServer) -> None:
    server.wait(lambda: "waiting at gate open" in server.log, "at the gate")


def _open_gate(server: ComfyServer) -> None:
    (server.base / "input" / "open").touch()


def test_background(comfy: Comfy) -> None:
    """503 with progress while it loads.

    Prompts wait behind it and hit; no prompt's place in the queue is lost.
    """
    server = comfy(preload=BACKGROUND, custom_nodes=LOADERS)
    _at_gate(server)

    loading = server.get("/ready?verbose")
    assert (503, "loading") == (loading.status, loading.json["status"])
    assert int(loading.headers["Retry-After"]) >= 1
    assert (3, 1, 0) == tuple(loading.json["models"][key] for key in ("total", "ready", "failed"))
    assert ["resident", "loading", "pending"] == [row["state"] for row in loading.json["models"]["items"]]
    assert 0 < loading.json["progress"]["fraction"] < 1
    assert 0 < loading.json["progress"]["bytes"] < loading.json["progress"]["bytes_total"]
    single = {name: server.get(f"/ready/{name}") for name in ("tiny", "gate", "taesd3")}
    assert [200, 503, 503] == [reply.status for reply in single.values()]
    assert ["ready", "loading", "pending"] == [reply.json["status"] for reply in single.values()]

    waiting = [server.queue(UNET), server.queue(VAE)]
    assert waiting == [item[1] for item in sorted(server.get("/queue").json["queue_pending"])]
    assert {} == server.get("/history").json

    _open_gate(server)
    server.wait_ready()
    for prompt_id in waiting:
        server.result(prompt_id)
    assert {"tiny": 1, "gate": 0, "taesd3": 1} == hits(server)
    assert {} == misses(server)
    assert {"resident"} == {row["state"] for row in rows(server).values()}
    server.wait(
        lambda: set(waiting) == server.get("/history").json.keys(),
        "rid of the job's history entry",
        deadline=15,
    )


def test_cancelled(comfy: Comfy) -> None:
    """Cancel in the interface ends the loading, says so, and harms nothing.

    What is missing is loaded on its first use.
    """
    server = comfy(preload=BACKGROUND, custom_nodes=LOADERS)
    _at_gate(server)
    assert 200 == server.post("/interrupt", {}).status
    server.wait(lambda: server.get("/ready").json["status"] == "failed", "interrupted", deadline=20)

    cancelled = server.get("/ready")
    assert 503 == cancelled.status
    assert {"gate": "interrupted", "taesd3": "interrupted"} == {
        name: error["code"] for name, error in cancelled.json["failing"].items()
    }
    assert "interface" in cancelled.json["failing"]["gate"]["message"]
    assert "first use" in cancelled.json["failing"]["gate"]["hint"]

    assert server.sink(UNET)["any"]["weights"]
    assert 1 == hits(server)["tiny"]
    first = server.sink(VAE)["any"]["id"]
    server.run(prompts.unrelated())
    assert first == server.sink(VAE)["any"]["id"]
    assert 200 == server.get("/ready/taesd3").status
    _open_gate(server)
    server.run(prompts.load("TestGateLoader", gate="open", heeds_cancel=True))
    assert (200, "ready") == ((reply := server.get("/ready")).status, reply.json["status"])


def test_hanging_loader(comfy: Comfy) -> None:
    """After `timeout` the port opens and /ready reports which models are late.

    When the loader comes back they become ready.
    """
    server = comfy(preload=HANGING, custom_nodes=LOADERS, wait=False)
    _at_gate(server)
    with socket.socket() as probe:
        assert probe.connect_ex((LOOPBACK, server.port)) or "[timeout]" in server.log
    server.wait_listening()

    late = server.get("/ready")
    assert (503, "failed") == (late.status, late.json["status"])
    assert {"gate": "timeout", "taesd3": "timeout"} == {
        name: error["code"] for name, error in late.json["failing"].items()
    }
    assert "1 s that" in late.json["failing"]["gate"]["message"]
    assert "Raise 'timeout'" in late.json["failing"]["gate"]["hint"]
    assert int(late.headers["Retry-After"]) >= 1
    assert (200, 503) == (server.get("/ready/tiny").status, server.get("/ready/taesd3").status)
    assert [200, 200, 200] == [
        server.get(path).status for path in ("/livez", "/preload", "/object_info/UNETLoader")
    ]
    waiting = server.queue(UNET)

    _open_gate(server)
    server.wait(lambda: server.get("/ready").status == 200, "ready after all", deadline=20)
    assert {"total": 3, "ready": 3, "failed": 0, "not_preloaded": 0} == server.get("/ready").json["models"]
    server.result(waiting)
    assert 1 == hits(server)["tiny"]
    assert "ready: 3 models loaded, 0 failed" in own_lines(server)[-1]
