"""Single flight: replicas that share a storage read a file one after the other, and never wait for a Redis that is away."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from redis import Redis as Client

from comfy_preload.core.machine import prefetch
from comfy_preload.core.machine.prefetch import Prefetch
from comfy_preload.registry import lease, storage
from comfy_preload.registry.address import Where
from comfy_preload.registry.lease import Gate
from comfy_preload.registry.redis_link import Link
from comfy_preload.registry.storage import place
from tests.registry.broken_servers import SPEAKERS, BrokenServer
from tests.registry.conftest import Redis
from tests.registry.replicas import until
from tests.support.comfy import free_port

Make = Callable[..., Gate]


@pytest.fixture
def make() -> Iterator[Make]:
    """A gate as another process would have it; those who wait are let go after the test."""
    gates: list[Gate] = []

    def gate(url: str, readers: int | None = 1) -> Gate:
        gates.append(Gate(Where(redis=url, advertise="http://a", id="a", readers=readers)))
        return gates[-1]

    yield gate
    for one in gates:
        one.closed.set()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "模型 'x' \".safetensors"
    path.write_bytes(bytes(1000))
    return path


@pytest.fixture
def granted(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """What Redis says to each call for a lease, in turn; renewals are left out."""
    answers: list[bool] = []
    ask = Link.lease

    def lease_(one: Link, key: str, token: str, limit: int, ttl: float) -> bool:
        answer = ask(one, key, token, limit, ttl)
        if limit:
            answers.append(answer)
        return answer

    monkeypatch.setattr(Link, "lease", lease_)
    return answers


def enter(gate: Gate, path: Path) -> tuple[threading.Event, list[Callable[[], None]]]:
    """In a thread of its own. The event: it has come in; the list: how to get out."""
    inside, release = threading.Event(), list[Callable[[], None]]()

    def run() -> None:
        release.append(gate(path))
        inside.set()

    threading.Thread(target=run, daemon=True).start()
    return inside, release


def test_one_after_the_other(redis: Redis, make: Make, file: Path) -> None:
    """The second comes in when the first is done, and soon."""
    url = redis().url
    first = make(url)(file)
    inside, _ = enter(make(url), file)
    assert not inside.wait(0.6)
    first()

    assert inside.wait(30)


def test_default(redis: Redis, make: Make, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a disk of the node nobody waits; on a network volume the fifth does."""
    url = redis().url
    for _ in range(8):
        make(url, readers=None)(file)
    monkeypatch.setattr(lease, "place", lambda path: replace(place(path), network=True))
    for _ in range(4):
        make(url, readers=None)(file)
    inside, _ = enter(make(url, readers=None), file)

    assert not inside.wait(0.6)


def test_no_more_than_allowed(redis: Redis, make: Make, file: Path) -> None:
    """Two of three at once; another file is another matter."""
    url = redis().url
    other = file.with_name("other")
    other.write_bytes(b"x")
    gates = [make(url, readers=2) for _ in range(3)]
    entered = [enter(gate, file) for gate in gates]
    until(lambda: sum(inside.is_set() for inside, _ in entered) == 2, "in")
    gates[0](other)
    time.sleep(0.5)
    assert 2 == sum(inside.is_set() for inside, _ in entered)
    next(release for inside, release in entered if inside.is_set())[0]()

    until(lambda: all(inside.is_set() for inside, _ in entered), "all in")


def test_death(
    redis: Redis, make: Make, file: Path, monkeypatch: pytest.MonkeyPatch, granted: list[bool]
) -> None:
    """The lease of a process that died is free when its time is over."""
    monkeypatch.setattr(lease, "TTL", 0.5)
    server = redis()
    Client.from_url(server.url).zadd(
        f"comfy-preload:reading:{place(file).key}", {"dead": (time.time() + 0.5) * 1000}
    )
    make(server.url)(file)

    assert [False, True] == sorted(set(granted))


def test_renewal(
    redis: Redis, make: Make, file: Path, monkeypatch: pytest.MonkeyPatch, granted: list[bool]
) -> None:
    """Who reads for longer than a lease lasts keeps it, but not for ever."""
    monkeypatch.setattr(lease, "TTL", 0.4)
    monkeypatch.setattr(lease, "MOST_HOLD", 1.5)
    url = redis().url
    make(url)(file)
    granted.clear()
    make(url)(file)

    assert [False, True] == sorted(set(granted)), "refused while the first holds it, then granted"


def test_release_of_another(redis: Redis, make: Make, file: Path) -> None:
    """A lease can only be given back by its owner."""
    server = redis()
    first = make(server.url)(file)
    key = f"comfy-preload:reading:{place(file).key}"
    client = Client.from_url(server.url)
    client.delete(key)
    client.zadd(key, {"another": (time.time() + 60) * 1000})
    first()
    time.sleep(0.3)

    assert [b"another"] == client.zrange(key, 0, -1)


def test_patience(
    redis: Redis, make: Make, file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody waits for ever."""
    monkeypatch.setattr(lease, "MOST_WAIT", 0.5)
    url = redis().url
    make(url)(file)
    make(url)(file)

    assert "not waiting any longer" in caplog.text


@pytest.mark.parametrize("kind", ["closed", "silent", *SPEAKERS])
def test_no_redis(kind: str, make: Make, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is there instead of Redis, nobody is held up for longer than BUDGET, for all files together."""
    waits: list[float] = []

    server = BrokenServer(
        SPEAKERS.get(kind, list), silent=kind == "silent", every=0.01 if kind == "drips" else 0.0
    )
    url = f"redis://127.0.0.1:{free_port()}" if kind == "closed" else server.url
    try:
        gate = make(url)
        known = gate._known  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        wait = known.wait

        def recorded(timeout: float) -> bool:
            waits.append(timeout)
            return wait(timeout)

        monkeypatch.setattr(known, "wait", recorded)
        for _ in range(3):
            gate(file)()
        assert wait(30), "its thread finds out, whatever is there"

        assert lease.BUDGET >= waits[0] >= waits[1] >= waits[2] >= 0
    finally:
        server.close()


def test_redis_goes_away(redis: Redis, make: Make, file: Path) -> None:
    """Those who wait go on when Redis dies."""
    server = redis()
    make(server.url)(file)
    inside, _ = enter(make(server.url), file)
    assert not inside.wait(0.4)
    server.kill()

    assert inside.wait(30)


def test_missing_file(redis: Redis, make: Make, tmp_path: Path) -> None:
    """It is the reader's business to complain."""
    make(redis().url)(tmp_path / "none")()


def test_prefetch(redis: Redis, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two replicas that read the same three files: never one file at once, all read in the end, nobody gives up."""
    monkeypatch.setattr(prefetch, "PATIENCE", 0.3)
    files = [tmp_path / f"{i}.safetensors" for i in range(3)]
    for path in files:
        path.write_bytes(bytes(3000))
    monkeypatch.setattr(prefetch, "uncached", lambda _path, _size: [0])
    reading: set[Path] = set()
    together: list[Path] = []

    def watched(gate: Gate) -> Callable[[Path], Callable[[], None]]:
        def enter(path: Path) -> Callable[[], None]:
            release = gate(path)
            if path in reading:
                together.append(path)
            reading.add(path)
            time.sleep(0.5)

            def leave() -> None:
                reading.discard(path)
                release()

            return leave

        return enter

    url = redis().url
    both = [Prefetch(files, budget=1 << 20, readers=2, gate=watched(make(url))) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.wait(files)

    assert [] == together
    assert [9000, 9000] == [one.progress().bytes for one in both]


def test_stop_at_the_gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that was stopped while it waited gives its turn back and reads nothing."""
    path = tmp_path / "x.safetensors"
    path.write_bytes(bytes(100))
    at_gate, go, released = threading.Event(), threading.Event(), threading.Event()

    def gate(_: Path) -> Callable[[], None]:
        at_gate.set()
        go.wait(10)
        return released.set

    monkeypatch.setattr(prefetch, "uncached", lambda _path, _size: [0])
    one = Prefetch([path], budget=1000, gate=gate)
    one.start()
    assert at_gate.wait(30)
    one.stop()
    go.set()

    assert released.wait(30)


MOUNTS = """36 35 0:52 / /models rw,noatime shared:1 master:2 - nfs4 nas:/export rw,addr=10.0.0.1
37 35 {device} / /here rw - {kind} {source} rw
"""


@pytest.mark.parametrize(
    ("kind", "source", "network"),
    [
        ("ext4", "/dev/nvme0n1p1", False),
        ("nfs4", "nas:/export", True),
        ("fuse.juicefs", "JuiceFS:x", True),
        ("overlay", "overlay", False),
    ],
)
def test_place(kind: str, source: str, network: bool, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: FBT001 — a table
    """On a network volume nodes share a place; on their own disks they do not."""
    device = file.stat().st_dev
    mounts = file.with_name("mountinfo")
    mounts.write_text(
        MOUNTS.format(device=f"{os.major(device)}:{os.minor(device)}", kind=kind, source=source)
    )
    monkeypatch.setattr(storage, "_MOUNTS", mounts)
    here = place(file)
    monkeypatch.setattr(storage, "_kernel", lambda: "another node")

    assert network is here.network
    assert network is (place(file) == here)
