"""SIGTERM at each phase.

/ready turns away at once, prompts finish, the process ends by itself; a second one ends it now.
"""

from __future__ import annotations

import os
import signal
import sys
import time

import pytest

from tests.server.conftest import Comfy
from tests.support import prompts
from tests.support.comfy import ComfyServer
from tests.support.readings import CUSTOM_NODES

pytestmark = pytest.mark.skipif(
    sys.platform == "win32", reason="Windows has no SIGTERM to handle: it ends the process"
)

LOADERS = {"loaders": CUSTOM_NODES / "loaders"}
PRELOAD = "models:\n  - unet: tiny.safetensors\n"
UNET = prompts.load("UNETLoader", unet_name="tiny.safetensors", weight_dtype="default")
GATE = prompts.load("TestGateLoader", gate="open", heeds_cancel=True)


def terminate(server: ComfyServer) -> None:
    assert server.pid
    os.kill(server.pid, signal.SIGTERM)


def at_gate(server: ComfyServer) -> None:
    server.wait(lambda: "waiting at gate open" in server.log, "at the gate")


def open_gate(server: ComfyServer) -> None:
    (server.base / "input" / "open").touch()


def test_idle(comfy: Comfy) -> None:
    """Nothing runs: it ends at once, through ComfyUI's own end."""
    server = comfy(preload=PRELOAD)
    server.wait_ready()
    terminate(server)
    assert 0 == server.wait_exit(60)
    assert "Stopped server" in server.log


def test_prompts_finish(comfy: Comfy) -> None:
    """The running and the waiting prompt finish, their results can be fetched.

    One that comes late is refused.
    """
    server = comfy(preload=PRELOAD, custom_nodes=LOADERS)
    server.wait_ready()
    accepted = [server.queue(GATE), server.queue(UNET)]
    at_gate(server)
    terminate(server)
    server.wait(lambda: server.get("/ready").status == 503, "draining", deadline=5)
    assert "draining" == server.get("/ready").json["status"]
    assert 200 == server.get("/livez").status
    for path in ("/prompt", "/api/prompt"):
        late = server.post(path, {"prompt": prompts.unrelated()})
        assert (503, "draining", "5") == (
            late.status,
            late.json["error"]["code"],
            late.headers["Retry-After"],
        )
    assert 200 == server.get("/prompt").status
    assert "comfyui_preload_prompts_refused_total 2.0" in server.get("/preload/metrics").text
    refused = server.post("/preload/reload")
    assert (409, "command_too_early") == (refused.status, refused.json["error"]["code"])
    open_gate(server)
    for prompt_id in accepted:
        server.result(prompt_id)
    assert 0 == server.wait_exit(60)
    assert "0 prompts are unfinished" in server.log


def test_no_longer_than_told(comfy: Comfy) -> None:
    """What does not finish within `drain` is left, and named in the log."""
    server = comfy(preload=f"drain: 2\n{PRELOAD}", custom_nodes=LOADERS)
    server.wait_ready()
    lost = [server.queue(GATE), server.queue(UNET)]
    at_gate(server)
    terminate(server)
    assert 0 == server.wait_exit()
    assert f"2 prompts are unfinished after 2 s: {lost[0]}, {lost[1]}" in server.log


def test_second_signal(comfy: Comfy) -> None:
    server = comfy(preload=PRELOAD, custom_nodes=LOADERS)
    server.wait_ready()
    server.queue(GATE)
    at_gate(server)
    terminate(server)
    server.wait(lambda: server.get("/ready").status == 503, "draining", deadline=5)
    assert server.running
    terminate(server)
    assert 0 == server.wait_exit(60)


def test_while_loading_before_the_port_opens(comfy: Comfy) -> None:
    """Nobody's prompt can be lost: it ends at once."""
    text = "models:\n  - {loader: TestGateLoader, inputs: {gate: open}}\n"
    server = comfy(preload=text, custom_nodes=LOADERS, wait=False)
    at_gate(server)
    terminate(server)
    assert 0 == server.wait_exit(60)


def test_while_loading_in_the_background(comfy: Comfy) -> None:
    """A prompt waits behind the preload: both finish."""
    text = "when: background\nmodels:\n  - {loader: TestGateLoader, inputs: {gate: open}}\n"
    server = comfy(preload=text, custom_nodes=LOADERS)
    at_gate(server)
    waiting = server.queue(UNET)
    terminate(server)
    server.wait(lambda: server.get("/ready").json["status"] == "draining", "draining", deadline=5)
    open_gate(server)
    server.result(waiting)
    assert 0 == server.wait_exit(60)


def test_while_importing(comfy: Comfy) -> None:
    """Before there is anything to drain SIGTERM does what it always did."""
    server = comfy(preload=PRELOAD, wait=False)
    server.wait(lambda: "[preload]" in server.log or "pytorch version" in server.log.lower(), "importing")
    terminate(server)
    assert -signal.SIGTERM == server.wait_exit(60)


def test_ctrl_c_stays_as_it_was(comfy: Comfy) -> None:
    server = comfy(preload=PRELOAD)
    server.wait_ready()
    assert server.pid
    os.kill(server.pid, signal.SIGINT)
    assert 0 == server.wait_exit(60)
    assert "Stopped server" in server.log


def test_without_models_it_is_left_alone(comfy: Comfy) -> None:
    server = comfy(preload="")
    terminate(server)
    assert -signal.SIGTERM == server.wait_exit(60)


def test_prompts_are_counted(comfy: Comfy) -> None:
    """How long prompts ran and waited, and how long the start took, is in the metrics.

    Our own jobs are not.
    """
    server = comfy(preload=PRELOAD, custom_nodes=LOADERS)
    server.wait_ready()
    held, waiting = server.queue(GATE), server.queue(UNET)
    at_gate(server)
    time.sleep(1.1)
    open_gate(server)
    for prompt_id in (held, waiting):
        server.result(prompt_id)
    server.wait(lambda: "prompt_seconds_count 2.0" in server.get("/preload/metrics").text, "counted")
    text = server.get("/preload/metrics").text

    assert "comfyui_preload_prompt_wait_seconds_count 2.0" in text
    assert 'comfyui_preload_prompt_wait_seconds_bucket{le="1.0"} 1.0' in text, (
        "the second one waited for the first"
    )
    assert "comfyui_preload_ready_seconds_count 1.0" in text
