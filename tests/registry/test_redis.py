"""Replicas and a real Redis that works."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace

import pytest
from redis import Redis as Client

from comfy_preload.core.state.snapshot import Snapshot, Status
from comfy_preload.registry import redis_link as link
from comfy_preload.registry import service
from comfy_preload.registry import statement as entry
from comfy_preload.registry.service import Registry
from comfy_preload.registry.statement import encode
from tests.registry.conftest import Redis
from tests.registry.replicas import NAME, codes, held, ids, ready, registry, replica, until
from tests.support.snapshots import model, snapshot

Join = Callable[..., Registry]


@pytest.fixture
def join() -> Iterator[Join]:
    """A started registry, which says goodbye after the test."""
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


def test_two_replicas(redis: Redis, join: Join) -> None:
    """They find each other, and each knows where the other's models are."""
    server = redis()
    one, two = join(server.url, "a"), join(server.url, "b", lambda: ready(NAME))
    until(lambda: ids(one) == ids(two) == ["a", "b"], "found")

    assert ["b"] == [row["id"] for row in one.fleet.locate([{NAME}])["replicas"]]
    assert one.fleet.connected


def test_change_is_told_at_once(redis: Redis, join: Join, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that is loaded between two heartbeats is known long before the next."""
    monkeypatch.setattr(service, "INTERVAL", 60.0)
    server = redis()
    now: list[Snapshot] = [ready("first")]
    one = join(server.url, "a", lambda: now[0])
    until(lambda: one.fleet.connected, "connected")
    now[0] = ready("first", "second")
    time.sleep(0.3)
    other = join(server.url, "b")
    until(lambda: ids(other) == ["a", "b"], "found")

    assert other.fleet.locate([{"second"}])["replicas"]


def test_end(redis: Redis, join: Join) -> None:
    """A replica that ends is gone at once, before its time is over."""
    server = redis()
    one, two = join(server.url, "a"), join(server.url, "b")
    until(lambda: ids(one) == ["a", "b"], "found")
    two.close()
    until(lambda: ids(one) == ["a"], "gone", deadline=2.0)

    assert {} == one.fleet.listing()["ignored"]
    assert [b"{comfy-preload}:replica:a"] == Client.from_url(server.url).keys("*replica:*")


def test_drain(redis: Redis, join: Join) -> None:
    """A replica that drains gets no prompts, and is listed until it ends: its results are still there."""
    server = redis()
    now = [ready()]
    one, two = join(server.url, "a"), join(server.url, "b", lambda: now[0])
    until(lambda: ids(one) == ["a", "b"], "found")
    now[0] = snapshot(Status.DRAINING, model("sdxl"))
    until(lambda: len(one.fleet.locate([{"sdxl"}])["replicas"]) == 1, "not recommended", deadline=2.0)

    (row,) = (row for row in one.fleet.listing()["replicas"] if row["id"] == "b")
    assert (False, "draining") == (row["ready"], row["status"])
    two.close()
    until(lambda: ids(one) == ["a"], "gone", deadline=2.0)


def test_queues_move_without_statements(redis: Redis, join: Join) -> None:
    """A queue that changes is known at once, and nobody reads the statement again for it."""
    server = redis()
    now = [ready()]
    one, _ = join(server.url, "a"), join(server.url, "b", lambda: now[0])
    until(lambda: ids(one) == ["a", "b"], "found")
    client = Client.from_url(server.url)
    client.config_resetstat()
    now[0] = replace(ready(), queue_remaining=7)
    until(
        lambda: [7] == [row["queue"] for row in one.fleet.listing()["replicas"] if row["id"] == "b"], "told"
    )
    stats = client.info("commandstats")
    reads, rounds = (stats[f"cmdstat_{name}"]["calls"] for name in ("getrange", "zrevrange"))

    assert 0 <= reads - rounds <= 1, "each round reads one's own statement and no other"


def test_silence(redis: Redis, join: Join, monkeypatch: pytest.MonkeyPatch) -> None:
    """A replica that dies without a word is gone when its time is over."""
    monkeypatch.setattr(link, "TTL", 0.6)
    monkeypatch.setattr(entry, "TTL", 0.6)
    server = redis()
    client = Client.from_url(server.url)
    client.set("{comfy-preload}:replica:dead", encode(replica("dead")), px=600)
    client.zadd("{comfy-preload}:replicas", {"dead d1 0": time.time()})
    one = join(server.url, "a")
    until(lambda: ids(one) == ["a", "dead"], "found")
    until(lambda: ids(one) == ["a"], "gone", deadline=2.0)

    assert not client.exists("{comfy-preload}:replica:dead")


def test_same_id(redis: Redis, join: Join, caplog: pytest.LogCaptureFixture) -> None:
    """Two processes with one id: both say so, once, and who wrote last is listed."""
    server = redis()
    one = join(server.url, "a")
    until(lambda: one.fleet.connected, "connected")
    two = join(server.url, "a", lambda: ready("another"))
    until(lambda: codes(one) == codes(two) == ["registry_id_taken"], "told")
    other = join(server.url, "b")
    until(lambda: ids(other) == ["a", "b"], "found")
    time.sleep(0.5)

    assert 2 == caplog.text.count("[registry_id_taken]")


def test_restart(redis: Redis, join: Join) -> None:
    """What the last run of this replica left behind is not another replica."""
    server = redis()
    client = Client.from_url(server.url)
    client.set("{comfy-preload}:replica:a", encode(replica("a", instance="earlier")))
    one = join(server.url, "a")
    until(lambda: one.fleet.connected, "connected")
    time.sleep(0.5)

    assert [] == codes(one)


def test_odd_entries(redis: Redis, join: Join) -> None:
    """Skewed, newer, broken and huge entries, and keys of another type, are counted and left out."""
    server = redis()
    client = Client.from_url(server.url)
    now = time.time()
    good = replica("good", held(NAME))
    odd = {
        "good": encode(good),
        "ahead": encode(replace(good, id="ahead")),
        "behind": encode(replace(good, id="behind")),
        "newer": b'{"format": 2}',
        "broken": b"\x00\xff",
        "huge": b"x" * 2_000_000,
        "\xff": b"{}",
    }
    for name, raw in odd.items():
        client.set(f"{{comfy-preload}}:replica:{name}", raw)
        client.zadd(
            "{comfy-preload}:replicas", {f"{name} d1 0": now + {"ahead": 3600, "behind": -30}.get(name, 0)}
        )
    client.lpush("{comfy-preload}:replica:list", "x")
    client.zadd(
        "{comfy-preload}:replicas", {"list d1 0": now, "gone d1 0": now, "no member": now, "bad d1 x": now}
    )
    client.zadd("{comfy-preload}:replicas", {b"\xfe": now})
    one = join(server.url, "a")
    until(lambda: one.fleet.connected, "connected")

    assert ["a", "good"] == ids(one)
    assert {
        "future": 1,
        "expired": 1,
        "other_format": 1,
        "malformed": 2,
        "too_large": 1,
    } == one.fleet.listing()["ignored"]


def test_skewed_clock(redis: Redis, join: Join, monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis dates the entries: a replica whose clock is an hour off is found, and so are its models."""
    server = redis()
    real = time.time
    began = real() - 1
    one = join(server.url, "a")
    until(lambda: one.fleet.connected, "connected")
    client = Client.from_url(server.url)
    monkeypatch.setattr(time, "time", lambda: real() + 3600)
    two = join(server.url, "b")
    until(lambda: two.fleet.connected, "connected")
    monkeypatch.undo()
    raw = client.get("{comfy-preload}:replica:b")

    assert isinstance(raw, bytes)
    assert began <= entry.decode(raw, key="b").updated <= real() + 1
    assert -3600 == pytest.approx(two.fleet.offset, abs=600)


@pytest.mark.parametrize(
    "options",
    [{"password": "s3cret/+ü".encode().hex()}, {"tls": True}, {"tls": True, "password": "secret"}],
    ids=["password", "tls", "both"],
)
def test_secured(
    redis: Redis, join: Join, options: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    """Passwords and TLS stand in the URL."""
    caplog.set_level(logging.DEBUG)
    server = redis(**options)
    one = join(server.url, "a")
    until(lambda: one.fleet.connected, "connected")

    assert ["registry: connected as a, 0 other replicas"] == [
        r.message.removeprefix("[preload] ") for r in caplog.records if r.name == "preload"
    ]
