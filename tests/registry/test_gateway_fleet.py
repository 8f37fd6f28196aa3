"""The gateway before three real ComfyUIs with a real Redis.

Browsers, programs, one replica killed, one drained.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.registry.conftest import Redis
from tests.server.conftest import models
from tests.support import nginx, prompts
from tests.support.comfy import SINK, ComfyServer, free_port
from tests.support.readings import CUSTOM_NODES
from tests.support.reply import Reply, ask
from tools.host import comfyui_path, comfyui_python

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to handle")
__all__ = ["models"]

NODES = {"sink": SINK, "loaders": CUSTOM_NODES / "loaders"}
UNET = prompts.load("UNETLoader", unet_name="tiny.safetensors", weight_dtype="default")


class Fleet:
    """Three replicas and their gateway. `warm` is the one that has the diffusion model."""

    def __init__(self, url: str, servers: dict[str, ComfyServer]) -> None:
        self.url = url
        self.servers = servers

    def send(self, prompt: Any, **headers: str) -> Reply:
        return ask(f"{self.url}/prompt", method="POST", body={"prompt": prompt}, headers=headers)

    def result(self, prompt_id: str, replica: str, deadline: float = 60) -> dict[str, Any]:
        """What became of it, from the replica that has it."""
        end = time.monotonic() + deadline
        while time.monotonic() < end:
            reply = ask(f"{self.url}/history/{prompt_id}", headers={"X-Replica": replica})
            assert reply.status == 200, reply
            if prompt_id in reply.json:
                return reply.json[prompt_id]
            time.sleep(0.1)
        raise TimeoutError(prompt_id)

    def replicas(self) -> list[dict[str, Any]]:
        living = next(server for server in self.servers.values() if server.running)
        return living.get("/preload/replicas").json["replicas"]

    def until(self, condition: Any, deadline: float = 60) -> None:
        end = time.monotonic() + deadline
        while not condition():
            assert time.monotonic() < end
            time.sleep(0.1)


@pytest.fixture
def fleet(redis: Redis, tmp_path: Path, models: Path) -> Iterator[Fleet]:
    """`a` has the diffusion model and the others a text encoder."""
    store = redis()
    with ExitStack() as stack:
        servers: dict[str, ComfyServer] = {}
        for name, entry in (
            ("a", "unet: tiny.safetensors"),
            ("b", "clip: clip_l.safetensors"),
            ("c", "clip: clip_l.safetensors"),
        ):
            port = free_port()
            registry = {"redis": store.url, "advertise": f"http://127.0.0.1:{port}", "id": name}
            text = f"models: [{{{entry}}}]\nregistry: {json.dumps(registry)}\n"
            servers[name] = ComfyServer(
                tmp_path / name,
                host=comfyui_path(),
                python=comfyui_python(),
                port=port,
                preload=text,
                models=models,
                custom_nodes=NODES,
                forked=True,
            )
            stack.enter_context(servers[name])
        for server in servers.values():
            server.wait_ready()
        (tmp_path / "nginx").mkdir()
        url = stack.enter_context(
            nginx.gateway(tmp_path / "nginx", [one.url.removeprefix("http://") for one in servers.values()])
        )
        found = Fleet(url, servers)
        found.until(lambda: all(map(knows_the_others, servers.values())))
        yield found


def knows_the_others(server: ComfyServer) -> bool:
    """Each looks at the others every two seconds, and the gateway may ask any of them."""
    ready = [one["ready"] for one in server.get("/preload/replicas").json["replicas"]]
    located = server.get("/preload/locate?model=tiny").json["replicas"]
    return [True] * 3 == ready and ["a"] == [one["id"] for one in located]


async def watched(url: str, jar: aiohttp.CookieJar, prompt: Any, client: str) -> tuple[str, list[str]]:
    """What a browser does: the page, its WebSocket, a prompt, the messages until it is done.

    Its replica and the messages.
    """
    async with aiohttp.ClientSession(cookie_jar=jar) as session:
        async with session.get(url) as page:
            replica = page.headers["X-Replica"]
        async with session.ws_connect(f"{url}/ws?clientId={client}") as socket:
            async with session.post(f"{url}/prompt", json={"prompt": prompt, "client_id": client}) as sent:
                assert (200, replica) == (sent.status, sent.headers["X-Replica"])
                prompt_id = (await sent.json())["prompt_id"]
            seen: list[str] = []
            async for message in socket:
                if message.type is aiohttp.WSMsgType.TEXT:
                    event = json.loads(message.data)
                    seen.append(event["type"])
                    if event["type"] == "executing" and event["data"]["node"] is None:
                        break
        async with session.get(f"{url}/history/{prompt_id}") as history:
            assert prompt_id in await history.json()
        return replica, seen


def test_the_life_of_a_fleet(fleet: Fleet) -> None:
    """Warm routing, browsers, a killed replica, a drained one.

    No prompt runs twice, no announced result is lost.
    """
    url = fleet.url
    # a program's prompts go where the model is, and X-Replica leads to the result
    for _ in range(3):  # one after the other: a long queue would spill over
        reply = fleet.send(UNET)
        assert "a" == reply.headers["X-Replica"]
        assert "success" == fleet.result(reply.json["prompt_id"], "a")["status"]["status_str"]

    # browsers: page, WebSocket, prompt and history are one replica's, by the cookie alone
    async def browsers() -> list[tuple[str, list[str]]]:
        jars = [aiohttp.CookieJar(unsafe=True) for _ in range(6)]
        return await asyncio.gather(
            *(watched(url, jar, prompts.unrelated(i), f"browser-{i}") for i, jar in enumerate(jars))
        )

    for _, seen in asyncio.run(browsers()):
        assert "execution_start" in seen

    # one is killed while its prompt runs: 410 for its results, and new prompts go on elsewhere
    held = fleet.send(prompts.load("TestGateLoader", gate="never", heeds_cancel=False), **{"X-Replica": "b"})
    assert 200 == held.status
    victim = fleet.servers["b"]
    assert victim.pid
    os.kill(victim.pid, signal.SIGKILL)
    victim.wait_exit()
    assert 410 == ask(f"{url}/history/{held.json['prompt_id']}", headers={"X-Replica": "b"}).status
    after = [fleet.send(prompts.unrelated(100 + i)) for i in range(8)]
    assert {200} == {reply.status for reply in after}
    assert "b" not in {reply.headers["X-Replica"] for reply in after}

    # one drains: what it took is finished and fetched from it, what is new goes to the last one
    gate = fleet.servers["a"].base / "input" / "late"
    last = fleet.send(prompts.load("TestGateLoader", gate="late", heeds_cancel=False), **{"X-Replica": "a"})
    queued = fleet.send(UNET, **{"X-Replica": "a"})
    server = fleet.servers["a"]
    server.wait(lambda: "waiting at gate late" in server.log, "at the gate")
    assert server.pid
    os.kill(server.pid, signal.SIGTERM)
    server.wait(lambda: server.get("/ready").status == 503, "draining", deadline=10)
    during = [fleet.send(UNET) for _ in range(4)]
    assert {(200, "c")} == {(reply.status, reply.headers.get("X-Replica")) for reply in during}
    assert 503 == fleet.send(UNET, **{"X-Replica": "a"}).status
    fetched: dict[str, Any] = {}

    def fetch(prompt_id: str) -> None:
        fetched[prompt_id] = fleet.result(prompt_id, "a")["status"]["status_str"]

    clients = [threading.Thread(target=fetch, args=(reply.json["prompt_id"],)) for reply in (last, queued)]
    for client in clients:
        client.start()
    gate.touch()
    for client in clients:
        client.join(60)
    assert {last.json["prompt_id"]: "success", queued.json["prompt_id"]: "success"} == fetched
    assert 0 == server.wait_exit()
    for reply in during:
        assert "success" == fleet.result(reply.json["prompt_id"], "c")["status"]["status_str"]

    # every prompt that was accepted ran on one replica, and once
    accepted = [reply.json["prompt_id"] for reply in (*after, *during)]
    ran = fleet.servers["c"].get("/history").json
    elsewhere = [reply.json["prompt_id"] for reply in after if reply.headers["X-Replica"] != "c"]
    assert {one for one in accepted if one not in elsewhere} <= set(ran)
    assert not set(elsewhere) & set(ran)
