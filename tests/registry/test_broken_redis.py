"""Redis away, slow, full, locked, flapping or talking nonsense: nobody notices but the log, in one line."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack

import pytest
from redis import Redis as Client

from comfy_preload.registry import redis_link as link
from comfy_preload.registry import service
from comfy_preload.registry.service import Registry, start_registry
from tests.registry.broken_servers import SPEAKERS, BrokenServer, Speaker
from tests.registry.conftest import Redis
from tests.registry.replicas import codes, ids, ready, registry, until
from tests.support.comfy import free_port
from tests.support.redis_server import RedisServer

Join = Callable[..., Registry]
ODD = {"redis": "redis://x", "advertise": "http://user:hunter2@x"}
SECRETS = ("hunter2", "127.0.0.1", "redis://", "rediss://", "passwd", "example.org", "Traceback")


@pytest.fixture
def join(monkeypatch: pytest.MonkeyPatch) -> Iterator[Join]:
    """A started registry; neither starting nor ending one speaks to Redis in the thread that does it.

    It holds up nothing.
    """
    here = threading.current_thread()
    speakers: set[threading.Thread] = set()

    guard = link.RedisLink._guard  # noqa: SLF001 — every word with Redis is said in it  # pyright: ignore[reportPrivateUsage]

    def watched(one: link.RedisLink) -> AbstractContextManager[None]:
        speakers.add(threading.current_thread())
        return guard(one)

    monkeypatch.setattr(link.RedisLink, "_guard", watched)
    with ExitStack() as registries:

        def start(url: str, name: str = "a") -> Registry:
            one = registry(url, name)
            registries.callback(one.close)
            one.start()
            assert name in ids(one)
            return one

        yield start
    assert here not in speakers


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Ten times faster than for users."""
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(service, "TICK", 0.02)
    monkeypatch.setattr(service, "INTERVAL", 0.1)
    monkeypatch.setattr(service, "BACKOFF", (0.05, 0.2))
    monkeypatch.setattr(link, "TIMEOUT", 0.2)
    monkeypatch.setattr(service, "RedisLink", lambda at: link.RedisLink(at, timeout=0.2))


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Ours, none of which reports a secret."""
    found = [
        record.getMessage().removeprefix("[preload] registry: ")
        for record in caplog.records
        if record.name == "preload"
    ]
    assert not [line for line in found if any(secret in line for secret in SECRETS)]
    return found


def away(one: Registry, caplog: pytest.LogCaptureFixture, reason: str) -> None:
    """It has found out why, says so once, however often it tries, and goes on for itself."""
    until(lambda: codes(one) == ["registry_unavailable"], "away")
    time.sleep(1.0)
    reported = lines(caplog)

    assert [f"Redis {reason}"] == [line.partition(". ")[0] for line in reported]
    assert ["a"] == [row["id"] for row in one.fleet.locate([{"sdxl"}])["replicas"]]
    assert not one.fleet.connected


@pytest.mark.parametrize("speak", SPEAKERS.values(), ids=list(SPEAKERS))
def test_nonsense(speak: Speaker, join: Join, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever the other side says, it is one line in the log, and there is another try."""
    server = BrokenServer(speak, every=0.01 if speak is SPEAKERS["drips"] else 0.0)
    try:
        one = join(server.url)
        until(lambda: codes(one) == ["registry_unavailable"], "away")
        until(lambda: server.calls > 2, "tried again")
        time.sleep(0.3)

        assert 1 <= len(lines(caplog)) <= 3  # a connection that breaks off is another reason
        assert ["a"] == ids(one)
    finally:
        server.close()


def test_nobody_there(join: Join, caplog: pytest.LogCaptureFixture) -> None:
    """The port is closed."""
    away(join(f"redis://:hunter2@127.0.0.1:{free_port()}"), caplog, "cannot be reached")


def test_silent(join: Join, caplog: pytest.LogCaptureFixture) -> None:
    """It accepts, and never answers."""
    server = BrokenServer(list, silent=True)
    try:
        away(join(server.url), caplog, "does not answer within 0.2 s")
    finally:
        server.close()


def test_no_url(join: Join, caplog: pytest.LogCaptureFixture) -> None:
    """A URL that redis-py cannot read."""
    away(join("redis://:hunter2@127.0.0.1:port"), caplog, "cannot be asked: its URL is not valid")


@pytest.mark.parametrize("given", ["wrong", ""], ids=["wrong", "none"])
def test_password(given: str, redis: Redis, join: Join, caplog: pytest.LogCaptureFixture) -> None:
    """A wrong password, or none where one is wanted."""
    url = redis(password="hunter2").url  # noqa: S106 — of a server that lives for this test
    away(
        join(url.replace("hunter2", given).replace(":@", "")), caplog, "refuses the password, or requires one"
    )


def test_certificate(redis: Redis, join: Join, caplog: pytest.LogCaptureFixture) -> None:
    """A certificate that nobody has vouched for."""
    away(
        join(redis(tls=True).url.partition("?")[0]),
        caplog,
        "cannot be trusted or speaks no TLS: the handshake failed",
    )


def test_tls_to_plain(redis: Redis, join: Join, caplog: pytest.LogCaptureFixture) -> None:
    """TLS with a server that speaks none."""
    one = join(redis().url.replace("redis://", "rediss://"))
    until(lambda: codes(one) == ["registry_unavailable"], "away")

    assert 1 == len(lines(caplog))


def test_full(redis: Redis, join: Join, caplog: pytest.LogCaptureFixture) -> None:
    """A Redis without room; when there is some, all is well."""
    server = redis("--maxmemory", "1", "--maxmemory-policy", "noeviction")
    one = join(server.url)
    away(one, caplog, "is full (maxmemory)")
    Client.from_url(server.url).config_set("maxmemory", 0)
    until(lambda: one.fleet.connected, "connected")

    assert [] == codes(one)


def test_frozen_and_back(redis: Redis, join: Join, caplog: pytest.LogCaptureFixture) -> None:
    """A Redis that stops answering in the middle, and goes on later."""
    server = redis()
    one, two = join(server.url, "a"), join(server.url, "b")
    until(lambda: ids(one) == ids(two) == ["a", "b"], "found")
    server.freeze()
    until(lambda: not (one.fleet.connected or two.fleet.connected), "away")
    assert ["a", "b"] == ids(one), "the other is not forgotten at once"
    server.thaw()
    until(lambda: one.fleet.connected and two.fleet.connected, "connected")

    assert 2 == caplog.text.count("Redis does not answer within 0.2 s")


def test_flapping(redis: Redis, join: Join, caplog: pytest.LogCaptureFixture) -> None:
    """Killed and started again and again: one line for each change, and the fleet is whole in the end."""
    server = redis()
    one, two = join(server.url, "a"), join(server.url, "b")
    until(lambda: ids(one) == ids(two) == ["a", "b"], "found")
    for _ in range(3):
        server.kill()
        until(lambda: not (one.fleet.connected or two.fleet.connected), "away")
        time.sleep(0.5)
        server.start()
        until(lambda: one.fleet.connected and two.fleet.connected, "connected")
    until(lambda: ids(one) == ids(two) == ["a", "b"], "found")

    assert 2 * (1 + 3 + 3) >= len(lines(caplog)) >= 2 * (1 + 3)


def test_tries_get_fewer(join: Join, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the real pauses, at most four tries in five seconds: a busy machine makes fewer."""
    monkeypatch.setattr(service, "BACKOFF", (0.5, 15.0))
    server = BrokenServer(SPEAKERS["hangs-up"])
    try:
        join(server.url)
        time.sleep(5)

        assert server.calls <= 4
        until(lambda: server.calls >= 2, "tried again")
    finally:
        server.close()


def test_without_the_package(
    monkeypatch: pytest.MonkeyPatch, join: Join, caplog: pytest.LogCaptureFixture
) -> None:
    """Without redis-py: one line with what to do."""
    monkeypatch.setitem(sys.modules, "redis", None)
    one = join("redis://127.0.0.1")
    until(lambda: codes(one) == ["registry_package_missing"], "reported")

    assert 1 == len(lines(caplog))
    assert "pip install redis" in caplog.text


@pytest.mark.parametrize(
    "registry", [None, "redis://x", {}, {"redis": "redis://x"}, {"redis": 5, "advertise": "http://x"}, ODD]
)
def test_no_settings(registry: object) -> None:
    """Settings that are not usable start nothing: they are complained about elsewhere."""
    assert start_registry(registry, ready) is None


def test_server_fixture(redis: Redis) -> None:
    """The test's own Redis is a real one."""
    server: RedisServer = redis()

    assert Client.from_url(server.url).ping()
