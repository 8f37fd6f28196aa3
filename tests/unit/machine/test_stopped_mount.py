"""Storage that stops to answer in the middle of a read, as a network mount does.

A real FUSE file system, its process stopped.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from comfy_preload.core.machine import prefetch
from comfy_preload.core.machine.prefetch import CHUNK, Prefetch
from comfy_preload.core.state.slot import file_stamp

PLENTY = 1 << 40


@dataclass
class Mount:
    folder: Path
    process: subprocess.Popen[bytes]

    def stop(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Mount]:
    """Two files of eight chunks each, seen through bindfs, which reads nothing ahead and caches nothing."""
    bindfs, unmount = shutil.which("bindfs"), shutil.which("fusermount") or shutil.which("fusermount3")
    if bindfs is None or unmount is None or not os.access("/dev/fuse", os.W_OK):
        pytest.skip("needs bindfs and /dev/fuse")
    below, above = tmp_path / "below", tmp_path / "above"
    below.mkdir()
    above.mkdir()
    for name in ("a.bin", "b.bin"):
        with (below / name).open("wb") as file:
            file.write(b"x" * (8 * CHUNK))
    process = subprocess.Popen([bindfs, "-f", "-o", "direct_io", str(below), str(above)])
    end = time.monotonic() + 10
    while not above.is_mount() and time.monotonic() < end:
        time.sleep(0.02)
    if not above.is_mount():
        process.kill()
        pytest.skip("FUSE cannot be mounted here")
    yield Mount(above, process)
    process.send_signal(signal.SIGCONT)
    subprocess.run([unmount, "-u", "-z", str(above)], check=False)
    with suppress(subprocess.TimeoutExpired):
        process.wait(5)
    process.kill()


def test_inode_numbers(mount: Mount, tmp_path: Path) -> None:
    """A file system that numbers its files again does not make them new ones.

    On a local disk the number decides.
    """
    above, below = mount.folder / "a.bin", tmp_path / "below" / "a.bin"
    before, seen = below.stat(), above.stat()
    through, local = file_stamp([above]), file_stamp([below])

    (tmp_path / "below" / "new.bin").write_bytes(below.read_bytes())
    os.utime(tmp_path / "below" / "new.bin", ns=(before.st_atime_ns, before.st_mtime_ns))
    (tmp_path / "below" / "new.bin").replace(below)

    _until(lambda: above.stat().st_ino != seen.st_ino)  # the kernel keeps what it has seen for a second
    assert through == file_stamp([above])
    assert local != file_stamp([below])

    os.utime(below, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    _until(lambda: above.stat().st_mtime_ns != seen.st_mtime_ns)
    assert through != file_stamp([above])


def _until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    assert condition()


def test_mount_that_stops(
    mount: Mount, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Loading goes on after STALL_TIMEOUT, only the reader hangs.

    When the mount comes back nothing goes wrong.
    """
    monkeypatch.setattr(prefetch, "STALL_TIMEOUT", 0.5)
    files = [mount.folder / "a.bin", mount.folder / "b.bin"]
    job = Prefetch(files, budget=PLENTY, readers=1)
    job.start()
    while job.progress().bytes < CHUNK:
        time.sleep(0.001)
    mount.stop()
    job.wait(files)
    assert "loading continues without prefetch" in caplog.text
    read = job.progress().bytes
    assert CHUNK <= read < 16 * CHUNK
    assert job.progress().running, "its reader hangs in the kernel, and nobody minds"

    mount.go_on()
    end = time.monotonic() + 10
    while job.progress().running and time.monotonic() < end:
        time.sleep(0.02)
    assert not job.progress().running
    assert job.progress().bytes <= read + CHUNK, "it was asked to stop: no further chunk"
    assert not [t for t in threading.enumerate() if t.name == "preload-prefetch"]


def test_mount_that_never_answers(
    mount: Mount, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A mount that does not even say how large a file is ends the wait too."""
    monkeypatch.setattr(prefetch, "STALL_TIMEOUT", 0.5)
    mount.stop()
    job = Prefetch([path := mount.folder / "a.bin"], budget=PLENTY)
    job.start()
    job.wait([path])
    assert "loading continues without prefetch" in caplog.text
    assert 0 == job.progress().bytes
    mount.go_on()
