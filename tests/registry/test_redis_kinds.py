"""A real Redis Cluster and a real Sentinel: the fleet finds itself, and again after a failover."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from redis import Redis as Client
from redis.exceptions import RedisError

from comfy_preload.registry import service
from comfy_preload.registry.redis_client import connect
from comfy_preload.registry.service import Registry
from tests.registry.conftest import Redis
from tests.registry.replicas import ids, ready, registry, until
from tests.support.comfy import free_port
from tests.support.redis_server import RedisServer, missing

Join = Callable[..., Registry]


@pytest.fixture
def join() -> Iterator[Join]:
    with ExitStack() as registries:

        def start(*args: object, **options: object) -> Registry:
            one = registry(*args, **options)  # pyright: ignore[reportArgumentType]
            registries.callback(one.close)
            one.start()
            return one

        yield start


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten times faster than for users."""
    monkeypatch.setattr(service, "TICK", 0.05)
    monkeypatch.setattr(service, "INTERVAL", 0.2)
    monkeypatch.setattr(service, "BACKOFF", (0.1, 0.5))


def low_port() -> int:
    """A free one that leaves room for the cluster bus, which is 10000 higher."""
    while (port := free_port()) > 55_000:
        pass
    return port


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[list[RedisServer]]:
    """Three masters that share the slots."""
    if reason := missing():
        pytest.skip(reason)
    with ExitStack() as servers:
        found: list[RedisServer] = []
        for number in range(3):
            folder = tmp_path / str(number)
            folder.mkdir()
            words = (
                "--cluster-enabled",
                "yes",
                "--cluster-node-timeout",
                "1000",
                "--cluster-require-full-coverage",
                "no",
            )
            found.append(servers.enter_context(RedisServer(folder, *words, port=low_port())))
        command = [
            "redis-cli",
            "--cluster",
            "create",
            *(f"127.0.0.1:{one.port}" for one in found),
            "--cluster-yes",
        ]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        yield found


def test_cluster(cluster: list[RedisServer], join: Join) -> None:
    """Through any of its nodes, with all keys in one slot.

    A node that is away at the start does not matter.
    """
    nodes = [f"127.0.0.1:{one.port}" for one in cluster]
    one = join(f"redis+cluster://{nodes[0]},{nodes[1]}", "a")
    two = join(f"redis+cluster://127.0.0.1:1,{nodes[2]}", "b", lambda: ready("other"))
    until(lambda: ids(one) == ids(two) == ["a", "b"], "found", deadline=20)

    assert ["b"] == [row["id"] for row in one.fleet.locate([{"other"}])["replicas"]]
    held = [int(Client(port=server.port).dbsize()) for server in cluster]
    assert [0, 0, 3] == sorted(held)
    two.close()
    until(lambda: ids(one) == ["a"], "gone", deadline=5)


@pytest.fixture
def sentinel(redis: Redis, tmp_path: Path) -> Iterator[tuple[int, RedisServer]]:
    """A master, its copy, and one Sentinel that watches them: its port and the master."""
    master = redis()
    redis("--replicaof", "127.0.0.1", str(master.port))
    port = free_port()
    conf = tmp_path / "sentinel.conf"
    lines = [f"port {port}", "bind 127.0.0.1", f"sentinel monitor mine 127.0.0.1 {master.port} 1"]
    lines += ["sentinel down-after-milliseconds mine 500", "sentinel failover-timeout mine 2000"]
    conf.write_text("\n".join(lines) + "\n", encoding="utf-8")
    with (tmp_path / "sentinel.log").open("wb") as log:
        process = subprocess.Popen(
            ["redis-server", str(conf), "--sentinel"], cwd=tmp_path, stdout=log, stderr=log
        )
    try:
        watcher = Client(port=port)
        end = time.monotonic() + 30
        while True:
            with contextlib.suppress(OSError, RedisError):
                if watcher.sentinel_slaves("mine"):
                    break
            assert time.monotonic() < end, (tmp_path / "sentinel.log").read_text(encoding="utf-8")
            time.sleep(0.1)
        yield port, master
    finally:
        process.kill()
        process.wait(10)


def test_sentinel(sentinel: tuple[int, RedisServer], join: Join) -> None:
    """The watchers say who is the master.

    When he dies and the copy takes over, the fleet finds itself there.
    """
    port, master = sentinel
    url = f"redis+sentinel://127.0.0.1:1,127.0.0.1:{port}/mine/0"
    one, two = join(url, "a"), join(url, "b")
    until(lambda: ids(one) == ids(two) == ["a", "b"], "found", deadline=20)
    master.kill()
    until(lambda: not one.fleet.connected, "lost", deadline=20)
    until(lambda: one.fleet.connected and two.fleet.connected, "connected to the copy", deadline=60)
    until(lambda: ids(one) == ids(two) == ["a", "b"], "found again", deadline=20)


@pytest.mark.parametrize(
    "url",
    ["redis+sentinel://host:26379", "redis+cluster://", "redis+cluster://:x@,", "redis+sentinel://h:x/s"],
)
def test_not_a_url(url: str) -> None:
    with pytest.raises(ValueError, match=r"no host|no service|Port"):
        connect(url, {"socket_timeout": 1.0})
