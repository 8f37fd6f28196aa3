"""core/disk_waits: a thread that has to read a page from the disk is seen."""

from __future__ import annotations

import mmap
import os
import sys
import threading
from pathlib import Path

import pytest

from comfy_preload.core.machine.disk_waits import DiskWaits
from comfy_preload.core.machine.page_cache import uncached

SIZE = 64 << 20


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_a_page_from_the_disk(tmp_path: Path) -> None:
    """Reading a page that the page cache has is not a wait, nor is what another thread does."""
    path = tmp_path / "library.so"
    path.write_bytes(os.urandom(SIZE))
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        if not uncached(path, SIZE):
            pytest.skip("this file system keeps its files in memory")
        pages = mmap.mmap(stream.fileno(), SIZE, prot=mmap.PROT_READ)
    own, other = DiskWaits(threading.get_native_id()), DiskWaits(_sleeping())
    try:
        assert (False, False) == (own.since_last_call(), other.since_last_call())
        assert any(_touch(pages, own) for _ in range(3))
        assert not other.since_last_call()
        assert not all(_touch(pages, own) for _ in range(3)), "the page cache has them now"
    finally:
        own.close()
        other.close()


@pytest.mark.parametrize("thread_id", [None, 1 << 30], ids=["unknown", "gone"])
def test_a_thread_that_is_not_there(thread_id: int | None) -> None:
    """As on a system without /proc: it never waits."""
    waits = DiskWaits(thread_id)
    assert [False] * 2 == [waits.since_last_call() for _ in range(2)]
    waits.close()
    waits.close()
    assert not waits.since_last_call()


def _touch(pages: mmap.mmap, own: DiskWaits) -> bool:
    _ = pages[:: mmap.PAGESIZE]
    return own.since_last_call()


def _sleeping() -> int | None:
    thread = threading.Thread(target=threading.Event().wait, args=(30,), daemon=True)
    thread.start()
    return thread.native_id
