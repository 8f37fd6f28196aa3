"""A blocked event loop and a prompt worker that has ended are seen.

What only takes long is not taken for them.
"""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from tests.server.conftest import Comfy
from tests.support.comfy import LOOPBACK, ComfyServer, free_port
from tests.support.readings import CUSTOM_NODES
from tests.support.reply import Reply, ask

PRELOAD = "probe: {{port: {port}}}\nmodels:\n  - unet: tiny.safetensors\n"


class Watched:
    """A ComfyUI with the pack `hang`, and its early probe."""

    def __init__(self, comfy: Comfy) -> None:
        self.port = free_port()
        nodes = {"hang": CUSTOM_NODES / "hang"}
        self.server: ComfyServer = comfy(preload=PRELOAD.format(port=self.port), custom_nodes=nodes)
        self.server.wait_ready()

    def probe(self, path: str) -> Reply:
        return ask(f"http://{LOOPBACK}:{self.port}{path}")

    def wait(self, path: str, status: int, deadline: float = 120.0) -> Reply:
        self.server.wait(
            lambda: self.probe(path).status == status, f"{status} at {path}", deadline=deadline, every=0.5
        )
        return self.probe(path)

    def block(self) -> None:
        """Ask what blocks the event loop; the connection is given up before there is an answer."""
        with suppress(OSError):
            self.server.get("/test/block")

    def hold(self, how: str, seconds: int) -> str:
        return self.server.queue(
            {"1": {"class_type": "TestHold", "inputs": {"how": how, "seconds": seconds}}}
        )


@pytest.fixture
def watched(comfy: Comfy) -> Watched:
    """Start that ComfyUI."""
    return Watched(comfy)


@pytest.mark.parametrize("long", [False, pytest.param(True, marks=pytest.mark.soak)])
def test_blocked_loop(watched: Watched, *, long: bool) -> None:
    """Not ready first and alive; after a minute not alive; and both again when the loop runs."""
    blocked = threading.Thread(target=watched.block)
    blocked.start()
    body = watched.wait("/ready", 503).json
    assert ("unresponsive", "event_loop_blocked") == (body["status"], body["fault"]["code"])
    assert 200 == watched.probe("/livez").status

    if long:
        assert "event_loop_blocked" == watched.wait("/livez", 503).json["fault"]["code"]
        assert "comfyui_preload_alive 0.0" in watched.probe("/preload/metrics").text

    (watched.server.base / "input" / "go").touch()
    blocked.join()
    watched.wait("/ready", 200)
    assert (200, 200) == (watched.server.get("/ready").status, watched.probe("/livez").status)
    assert watched.server.get("/ready").json["fault"] is None


def test_worker_that_ends(watched: Watched) -> None:
    """`sys.exit` in a node ends ComfyUI's only thread for prompts: neither ready nor alive, on both ports."""
    watched.hold("exit", 0)

    assert "prompt_worker_ended" == watched.wait("/livez", 503).json["fault"]["code"]
    for reply in (watched.probe("/ready"), watched.server.get("/ready")):
        assert (503, "unresponsive") == (reply.status, reply.json["status"])


def test_what_only_takes_long(comfy: Comfy) -> None:
    """A prompt that takes longer than the limit, and one that lets no other thread run, are not a fault.

    Two servers at once, since each takes 15 seconds.
    """
    hows = ["sleep"] if sys.platform == "win32" else ["sleep", "hold"]  # Windows has no libc to sleep in
    held = [(one, one.hold(how, 15)) for one, how in [(Watched(comfy), how) for how in hows]]
    with ThreadPoolExecutor() as pool:
        seen = list(pool.map(lambda one: states_until_done(*one), held))

    assert [{(200, "ready")}] * len(hows) == seen
    assert {200} == {watched.probe("/livez").status for watched, _ in held}


def states_until_done(watched: Watched, prompt: str) -> set[tuple[int, str]]:
    """What /ready answers until the prompt is done."""
    seen: set[tuple[int, str]] = set()

    def over() -> bool:
        reply = watched.probe("/ready")
        seen.add((reply.status, reply.json["status"]))
        return prompt in watched.server.get("/history").json

    watched.server.wait(over, "done with the prompt", every=0.2)
    return seen
