"""core/pretouch: memory is written to, held, and given back."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from pathlib import Path

import pytest

from comfy_preload.core.machine.pretouch import STEP, Pretouch, prefer_huge_pages
from comfy_preload.core.text import gigabytes

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="does nothing elsewhere")

SIZE = 4 * STEP


def resident() -> int:
    """Bytes of anonymous memory that this process has."""
    rows = dict(
        line.split(":", 1) for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    )
    return int(rows["RssAnon"].split()[0]) * 1024


def test_memory_is_touched_held_and_given_back() -> None:
    """It becomes resident, stays until it is released, and is free when `release` returns."""
    before = resident()
    job = Pretouch(SIZE)
    job.start()
    end = time.monotonic() + 30
    while job.touched < SIZE and time.monotonic() < end:
        threading.Event().wait(0.005)
    assert SIZE == job.touched
    assert resident() - before > 0.9 * SIZE
    job.release()
    assert resident() - before < STEP


def test_release_ends_it_early() -> None:
    """Whoever loads does not wait for the rest."""
    job = Pretouch(1 << 40)  # never all of it: reserved, not had
    job.start()
    job.release()
    assert job.touched < 1 << 35


def test_spare_is_touched_and_given_back(caplog: pytest.LogCaptureFixture) -> None:
    """Before the first prompt, by two threads, as one line; nothing is left when `renew` returns."""
    before = resident()
    with caplog.at_level(logging.INFO, "preload"):
        Pretouch(0, spare=SIZE).renew()
    assert [f"[preload] pre-touched {gigabytes(SIZE)}"] == [
        line.rpartition(" of")[0] for line in caplog.messages
    ]
    assert resident() - before < STEP


@pytest.mark.parametrize("size", [-1, 0, STEP - 1])
def test_nothing_to_touch(size: int) -> None:
    """Without room there is no thread and nothing to wait for."""
    threads = threading.active_count()
    job = Pretouch(size, spare=size)
    job.start()
    job.renew()
    assert threads == threading.active_count()
    job.release()
    assert 0 == job.touched


@pytest.mark.parametrize(
    ("before", "after"), [(None, "1"), ("0", "0"), ("", "")], ids=["unset", "off", "empty"]
)
def test_huge_pages_are_the_users_choice(
    monkeypatch: pytest.MonkeyPatch, before: str | None, after: str
) -> None:
    """Whoever set torch's variable has decided."""
    monkeypatch.setenv(
        "THP_MEM_ALLOC_ENABLE", before or ""
    )  # so that it is as before afterwards, absent or not
    if before is None:
        monkeypatch.delenv("THP_MEM_ALLOC_ENABLE")
    prefer_huge_pages()
    assert after == os.environ["THP_MEM_ALLOC_ENABLE"]
