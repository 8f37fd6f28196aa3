"""core/prefetch: files reach the page cache, and nothing that is wrong with one stops the others."""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from comfy_preload.core.machine import prefetch
from comfy_preload.core.machine.page_cache import CHUNK, uncached
from comfy_preload.core.machine.prefetch import Prefetch

MB = 1 << 20
PLENTY = 1 << 40


@pytest.fixture
def file(tmp_path: Path) -> Callable[[str, int], Path]:
    """Make a file of this size that is on the disk and not in the page cache."""

    def make(name: str, size: int) -> Path:
        path = tmp_path / name
        path.write_bytes(os.urandom(size))
        handle = os.open(path, os.O_RDONLY)
        os.fsync(handle)
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)
        return path

    return make


def run(*paths: Path, budget: int = PLENTY, readers: int | None = 1) -> Prefetch:
    """One prefetch from beginning to end."""
    job = Prefetch(paths, budget=budget, readers=readers)
    job.start()
    job.wait(paths)
    return ended(job)


def ended(job: Prefetch) -> Prefetch:
    """Wait until it reads no more."""
    end = time.monotonic() + 10
    while job.progress().running and time.monotonic() < end:
        threading.Event().wait(0.005)
    return job


@pytest.mark.parametrize("readers", [1, 4, None], ids=["one", "four", "auto"])
def test_every_byte_is_counted(file: Callable[[str, int], Path], readers: int | None) -> None:
    """All files are read to the end, whatever the number of readers and however they fit into chunks."""
    sizes = [CHUNK + 5, 1, 3 * CHUNK]
    paths = [file(f"{i}.bin", size) for i, size in enumerate(sizes)]
    done = run(*paths, readers=readers).progress()
    assert sum(sizes) == done.bytes == done.bytes_total
    assert not done.running


def test_a_sandbox_that_cannot_send(
    file: Callable[[str, int], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where bytes cannot be sent to /dev/null they are read, and every one is counted once."""

    def refuse(*_: object) -> int:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "sendfile", refuse, raising=False)
    paths = [file("a.bin", CHUNK + 5), file("b.bin", MB)]
    assert run(*paths).progress().bytes == CHUNK + 5 + MB
    if hasattr(os, "RWF_NOWAIT"):
        assert [] == [missing for path in paths for missing in uncached(path, path.stat().st_size)]


@pytest.mark.skipif(not hasattr(os, "RWF_NOWAIT"), reason="only Linux knows what is cached")
def test_what_is_cached_is_not_read_again(file: Callable[[str, int], Path]) -> None:
    """A second pass finds everything in the page cache and reads nothing."""
    path = file("model.bin", 3 * CHUNK)
    first, second = run(path).progress(), run(path).progress()
    assert first.cached == 0
    assert (3 * CHUNK, 3 * CHUNK) == (second.cached, second.bytes)
    assert [] == uncached(path, 3 * CHUNK)


def test_a_file_named_twice_is_read_once(file: Callable[[str, int], Path]) -> None:
    """Two entries may share a file."""
    path = file("model.bin", MB)
    assert run(path, path).progress().bytes_total == MB


def test_bad_files_are_left_out(
    file: Callable[[str, int], Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A missing file, a folder, a FIFO, a symlink loop and an empty file cost one line each and no wait."""
    (tmp_path / "folder.safetensors").mkdir()
    os.mkfifo(tmp_path / "fifo.safetensors")
    (tmp_path / "loop.safetensors").symlink_to(tmp_path / "loop.safetensors")
    (tmp_path / "empty.safetensors").touch()
    bad = [tmp_path / f"{name}.safetensors" for name in ("gone", "folder", "fifo", "loop")]
    good = file("model.bin", MB)
    with caplog.at_level(logging.WARNING, "preload"):
        done = run(*bad, tmp_path / "empty.safetensors", good).progress()
    assert done.bytes == MB
    for path in bad:
        assert len([r for r in caplog.records if path.name in r.getMessage()]) == 1
    assert str(tmp_path) not in caplog.text


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_permission_denied(file: Callable[[str, int], Path]) -> None:
    """A file that may not be opened is left out."""
    path = file("model.bin", MB)
    path.chmod(0)
    assert run(path).progress().bytes_total == 0


def test_a_file_that_shrinks(file: Callable[[str, int], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """A file cut short while it is read ends the reading of that file, not of the next."""
    path, other = file("model.bin", 3 * CHUNK), file("other.bin", MB)
    measure = prefetch.uncached

    def then_cut(path_: Path, size: int) -> list[int]:
        missing = measure(path_, size)
        if path_ == path:
            os.truncate(path, CHUNK)
        return missing

    monkeypatch.setattr(prefetch, "uncached", then_cut)
    assert run(path, other).progress().bytes == CHUNK + MB


def test_imports_go_first(file: Callable[[str, int], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """While they wait for the disk no model is read; all of it once they do not, or once loading waits.

    And at once if it is not to give way.
    """

    class Waits:
        now = True

        def __init__(self, thread_id: int | None) -> None:
            assert threading.main_thread().native_id == thread_id

        def since_last_call(self) -> bool:
            return Waits.now

        def close(self) -> None: ...

    monkeypatch.setattr(prefetch, "DiskWaits", Waits)
    paths = [file(f"{name}.bin", CHUNK + MB) for name in "abc"]
    first, second, third = (Prefetch([path], budget=PLENTY, readers=1) for path in paths)
    first.start()
    time.sleep(0.2)
    assert first.progress().bytes == 0
    Waits.now = False
    ended(first)
    Waits.now = True
    second.start()
    third.start(give_way=False)
    ended(third)
    second.wait(paths)
    ended(second)
    assert [CHUNK + MB] * 3 == [one.progress().bytes for one in (first, second, third)]


@pytest.mark.parametrize(("budget", "expected"), [(0, 0), (MB, 0), (2 * MB, 2 * MB)])
def test_memory_limit(file: Callable[[str, int], Path], budget: int, expected: int) -> None:
    """A file that does not fit into the memory allowed is not begun; a smaller one after it still is."""
    big = file("big.bin", 2 * MB)
    assert run(big, budget=budget).progress().bytes == expected
    if budget == MB:
        assert run(big, file("small.bin", MB), budget=budget).progress().bytes == MB


def test_sparse_file_of_a_terabyte(tmp_path: Path) -> None:
    """A sparse file is judged by its size, not by what it has on the disk."""
    path = tmp_path / "sparse.bin"
    path.touch()
    os.truncate(path, 1 << 40)
    assert run(path, budget=1 << 34).progress().bytes == 0


def test_stop(file: Callable[[str, int], Path], caplog: pytest.LogCaptureFixture) -> None:
    """After `stop` it reads no further chunk, and `wait` returns before its patience ends."""
    path = file("model.bin", 8 * CHUNK)
    job = Prefetch([path], budget=PLENTY, readers=1)
    job.start()
    job.stop()
    job.wait([path])
    assert "loading continues without prefetch" not in caplog.text
    assert job.progress().bytes <= 2 * CHUNK


def test_nobody_waits_for_storage_that_does_not_answer(
    file: Callable[[str, int], Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a byte for STALL_TIMEOUT seconds, waiting ends and loading reads for itself."""
    monkeypatch.setattr(prefetch, "STALL_TIMEOUT", 0.2)
    job = Prefetch([path := file("model.bin", MB)], budget=PLENTY, readers=1)  # never started: reads nothing
    with caplog.at_level(logging.WARNING, "preload"):
        assert job.wait([path])
    assert "loading continues without prefetch" in caplog.text


def test_a_file_that_is_not_prefetched_is_not_waited_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Loading may ask for any file.

    A wait for this one would last until the patience ends, with a warning.
    """
    run().wait([tmp_path / "other.bin"])
    assert "loading continues without prefetch" not in caplog.text


def test_auto_tries_more_readers(file: Callable[[str, int], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """`auto` starts with one reader, measures four, and ends with one of the two numbers."""
    monkeypatch.setattr(prefetch, "TRIAL", CHUNK)
    done = run(file("model.bin", 12 * CHUNK), readers=None).progress()
    assert done.bytes == 12 * CHUNK
    assert done.readers in (1, prefetch.MAX_READERS)
