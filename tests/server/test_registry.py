"""Three real ComfyUIs and one Redis: prompts go where their model is, one process dies, then Redis does."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest

from tests.server.conftest import Comfy
from tests.support import prompts
from tests.support.comfy import ComfyServer, free_port
from tests.support.readings import misses
from tests.support.redis_server import RedisServer, missing

pytestmark = pytest.mark.redis
NAME = '模型 "XL" it\'s + 100 %'
TINY = (
    f"models:\n  - {{unet: tiny.safetensors, name: {json.dumps(NAME)}}}\n  - {{clip: clip_l.safetensors, "
    "type: sd3}\n"
)
OTHER = "models:\n  - unet: other.safetensors\n  - {clip: clip_l.safetensors, type: sd3}\n"
PASSWORD = "hunter2"  # noqa: S105 — of a server that lives for this test


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    if reason := missing():
        pytest.skip(reason)
    with RedisServer(tmp_path, password=PASSWORD) as server:
        yield server


def replica(comfy: Comfy, redis: RedisServer, models: str) -> ComfyServer:
    port = free_port()
    registry = f"registry: {{redis: '${{REDIS_URL}}', advertise: 'http://127.0.0.1:{port}'}}\n"
    return comfy(preload=models + registry, port=port, env={"REDIS_URL": redis.url}, wait=False)


def locate(asked: ComfyServer, *models: str) -> list[str]:
    """The addresses, best first."""
    reply = asked.get(f"/preload/locate?{urlencode([('model', m) for m in models])}")
    return [row["address"] for row in reply.json["replicas"]]


def wait_for(server: ComfyServer, count: int, deadline: float = 15.0) -> None:
    """Wait until `count` replicas are listed as ready, each model with the identity of its content."""

    def there() -> bool:
        rows = server.get("/preload/replicas").json["replicas"]
        whole = [row for row in rows if row["ready"] and all(model["content"] for model in row["models"])]
        return len(rows) == len(whole) == count

    server.wait(there, f"one of {count} replicas", deadline=deadline)


def test_fleet(comfy: Comfy, redis: RedisServer) -> None:
    """A burst is sent where the models are: no loader runs again.

    Who dies is gone in seconds; without Redis all goes on.
    """
    one, two, other = servers = [replica(comfy, redis, models) for models in (TINY, TINY, OTHER)]
    by_url = {server.url: server for server in servers}
    for server in servers:
        server.wait_ready()
    for server in servers:
        wait_for(server, 3)

    assert {one.url, two.url} == set(locate(other, NAME))
    assert [other.url] == locate(one, "other", "clip_l")
    rows = one.get("/preload/replicas").json["replicas"]
    contents = {model["name"]: model["content"] for row in rows for model in row["models"]}
    assert {one.url, two.url, other.url} == set(locate(one, contents["clip_l"]))
    assert 3 == len(set(contents.values()))

    queued: list[tuple[ComfyServer, str]] = []
    for seed in range(6):
        unet, model = ("tiny.safetensors", NAME) if seed % 3 else ("other.safetensors", "other")
        target = by_url[locate(one, model)[0]]
        queued.append((target, target.queue(prompts.image(unet=unet, seed=seed))))
        time.sleep(0.6)  # the longest delay before queue lengths are reported
    for target, prompt in queued:
        target.result(prompt)
    assert {other.url} < {target.url for target, _ in queued} <= set(by_url)
    assert [{}, {}, {}] == [misses(server) for server in servers]

    assert f'model="{NAME}"'.replace('"XL"', '\\"XL\\"') in one.get("/preload/metrics").text

    assert two.pid
    os.kill(two.pid, signal.SIGKILL)  # ours, started above
    wait_for(one, 2)
    assert [one.url] == locate(other, NAME)

    redis.kill()
    for server in (one, other):
        server.wait(
            lambda s=server: not s.get("/preload/replicas").json["connected"], "without Redis", deadline=10
        )
    assert [200, 200] == [server.get("/ready").status for server in (one, other)]
    assert [one.url] == locate(one, NAME)
    one.run(prompts.image(seed=99))
    logs = one.log + other.log
    assert PASSWORD not in logs + one.get("/preload").text + one.get("/preload/replicas").text
    assert 2 == len(re.findall(r"registry: Redis .*registry_unavailable", logs))


def test_without_redis(comfy: Comfy) -> None:
    """With a Redis that is not there, it is ready as ever, and gone when asked to."""
    registry = f"registry: {{redis: 'redis://127.0.0.1:{free_port()}', advertise: 'http://127.0.0.1:1'}}\n"
    server = comfy(preload=TINY + registry)
    server.wait_ready()

    assert [misses(server), "registry_unavailable"] == [
        {},
        server.get("/preload/replicas").json["problems"][0]["code"],
    ]
