"""The hold, with a clock of its own: what counts, what a restore changes, what keeps it from happening."""

from __future__ import annotations

import os
import random
import socket
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from comfy_preload.core.errors import problem
from comfy_preload.core.machine import restored
from comfy_preload.core.machine.head_start import HeadStart
from comfy_preload.core.machine.prefetch import Prefetch
from comfy_preload.core.settings.glance import SnapshotGlance
from comfy_preload.core.state.snapshot import Hold, HoldResult
from comfy_preload.stages import hold as stage


class Clock:
    """Seconds that pass when someone sleeps, and events at some of them."""

    def __init__(self, *events: tuple[int, Callable[[Clock], None]]) -> None:
        self.now = 1000.0
        self.sleeps = 0
        self._events = dict(events)

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.sleeps += 1
        self._events.get(self.sleeps, lambda _: None)(self)


@pytest.fixture
def control(tmp_path: Path) -> Path:
    folder = tmp_path / "control"
    folder.mkdir()
    return folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def held(control: Path, clock: Clock, head_start: HeadStart | None = None, **options: Any) -> Hold:
    given = SnapshotGlance(provider="dynamo", path=str(control), **options)
    found = await stage.hold(given, head_start or HeadStart(), clock=clock, sleep=clock.sleep)
    assert found
    return found


def answered(control: Path, file: str, jump: float = 0.0) -> Callable[[Clock], None]:
    """The process is frozen for that long; then the file is there."""

    def happen(clock: Clock) -> None:
        clock.now += jump
        (control / file).touch()

    return happen


async def test_resume(control: Path) -> None:
    """Counted in tenths of a second, and nothing is renewed."""
    random.seed(1)
    before = random.getstate()
    found = await held(control, Clock((10, answered(control, "snapshot-complete"))))

    assert (HoldResult.RESUMED, 1.0, 0.0) == (found.result, round(found.seconds, 3), round(found.jumped, 3))
    assert before == random.getstate()
    assert [] == names(control)


@pytest.mark.parametrize("jump", [1160.0, -300.0])
async def test_clock_jumps(control: Path, jump: float) -> None:
    """A restore twenty minutes later, or to a clock that is behind, uses up none of the limit."""
    clock = Clock(
        (5, lambda now: setattr(now, "now", now.now + jump)), (20, answered(control, "restore-complete"))
    )
    found = await held(control, clock, limit=5)

    assert HoldResult.RESTORED is found.result
    assert jump == pytest.approx(found.jumped, abs=1.5)
    assert found.seconds < 4
    assert found.restored


async def test_limit(control: Path) -> None:
    """No answer: it goes on after the limit, and takes back its announcement."""
    clock = Clock()
    found = await held(control, clock, limit=30)

    assert (HoldResult.UNANSWERED, "snapshot_unanswered") == (
        found.result,
        found.problem and found.problem.code,
    )
    assert (300, []) == (clock.sleeps, names(control))


async def test_no_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "provider_of", lambda _: None)
    assert await stage.hold(SnapshotGlance(), HeadStart()) is None


async def test_stale(control: Path) -> None:
    """A directory that says `restore-complete` from the start: not held, and not taken for a restore."""
    (control / "restore-complete").touch()
    clock = Clock()
    found = await held(control, clock)

    assert (HoldResult.SKIPPED, 0) == (found.result, clock.sleeps)
    assert found.restored is None
    assert found.problem
    assert "snapshot_stale" == found.problem.code


async def test_not_wanted(control: Path) -> None:
    wrong = problem("snapshot_not_wanted", reason="m is failed")
    found = await stage.hold(SnapshotGlance(provider="dynamo", path=str(control)), HeadStart(), wrong)

    assert found == Hold("imports", "dynamo", HoldResult.SKIPPED, problem=wrong)
    assert [] == names(control)


async def test_reader_that_hangs(control: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread in the middle of a read: nothing is announced."""
    monkeypatch.setattr(stage, "QUIET_TIMEOUT", 0.2)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    head_start = HeadStart()
    head_start.finder = threading.Thread(target=pipe.read_bytes, daemon=True)
    head_start.finder.start()
    found = await held(control, Clock(), head_start)
    with pipe.open("wb"):
        pass  # lets it end

    assert found.problem
    assert ("snapshot_busy", []) == (found.problem.code, names(control))


async def test_prefetch_ends_first(control: Path, tmp_path: Path) -> None:
    """The announcement comes after the last thread of the prefetch has ended."""
    file = tmp_path / "model"
    file.write_bytes(bytes(1 << 20))
    head_start = HeadStart()
    head_start.prefetch = Prefetch([file], budget=1 << 30)
    head_start.prefetch.start()
    seen: list[str] = []

    def look(_: Clock) -> None:
        seen.extend(thread.name for thread in threading.enumerate())
        (control / "snapshot-complete").touch()

    assert HoldResult.RESUMED is (await held(control, Clock((1, look)), head_start)).result
    assert "preload-prefetch" not in seen


async def test_open_socket(control: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Somebody's listener is named; the hold goes on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        found = await held(control, Clock((1, answered(control, "snapshot-complete"))))

    assert HoldResult.RESUMED is found.result
    assert f"{port} (LISTEN)" in caplog.text


def draw() -> tuple[float, float, str]:
    with tempfile.NamedTemporaryFile() as made:
        return random.random(), float(np.random.rand()), made.name  # noqa: S311, NPY002 — what is reseeded


async def test_new_identity(control: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two restores of one copy have other random numbers, names of temporary files and variables."""
    variables = tmp_path / "environ"
    variables.write_text("POD_IP=10.0.0.1\nSECRET=old\n", encoding="utf-8")
    monkeypatch.setenv("POD_IP", "10.0.0.1")
    monkeypatch.setenv("SECRET", "old")
    monkeypatch.setenv("OWN", "kept")
    drawn: set[tuple[float, float, str]] = set()
    for number in range(2):
        random.seed(1)
        np.random.seed(1)  # noqa: NPY002 — what is reseeded
        monkeypatch.setattr(tempfile, "_name_sequence", iter(["same-name"] * 2))

        def restore(clock: Clock, number: int = number) -> None:
            variables.write_text(f"POD_IP=10.0.1.{number}\n", encoding="utf-8")
            answered(control, "restore-complete")(clock)

        await held(control, Clock((1, restore)), environment=str(variables))
        drawn.add(draw())
        assert (f"10.0.1.{number}", "kept") == (os.environ["POD_IP"], os.environ["OWN"])
        assert "SECRET" not in os.environ

    for column in zip(*drawn, strict=True):
        assert 2 == len(set(column))


def test_variables(tmp_path: Path) -> None:
    """As in /proc, or one on a line; a missing file has none."""
    file = tmp_path / "environ"
    file.write_bytes(b"A=1\0B=x=y\0C=two\nlines\0NOT\0=no\0")
    assert {"A": "1", "B": "x=y", "C": "two\nlines"} == restored.variables_in(file)
    file.write_bytes(b"A=1\nB=\n\n")
    assert {"A": "1", "B": ""} == restored.variables_in(file)
    assert {} == restored.variables_in(tmp_path / "nowhere")


def test_no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is gone empties nothing."""
    monkeypatch.setenv("A", "1")
    assert () == restored.renew_environment({"A": "1"}, {})
    assert "1" == os.environ["A"]
