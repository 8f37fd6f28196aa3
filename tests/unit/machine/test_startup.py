"""What a start reads is written down, and read ahead by the next one.

A record that does not fit is left alone.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from comfy_preload.core.machine import startup_record, startup_trace
from comfy_preload.core.machine.page_cache import uncached
from comfy_preload.core.machine.startup_reader import StartupReader
from comfy_preload.core.machine.startup_record import (
    RecordError,
    StartupRecord,
    merged,
    parse,
    read,
    text,
    write,
)

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="read ahead on Linux only")
HERE = {"python": "3.11", "torch": "2.14.1", "comfyui": "0.3.75"}
RECORD = StartupRecord(HERE, {"/a b/c.so": ((0, 10), (4096, 8192)), "/d.pyc": ((0, 5),)})


def test_written_and_read(tmp_path: Path) -> None:
    """The order of the files and their parts stay as they are."""
    write(tmp_path / "deep" / "startup.trace", text(RECORD))
    found = read(tmp_path / "deep" / "startup.trace")

    assert found == RECORD
    assert list(RECORD.files) == list(found.files)
    assert 10 + 4096 + 5 == found.bytes
    assert ["startup.trace"] == [file.name for file in (tmp_path / "deep").iterdir()]


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _large(path: Path) -> None:
    with path.open("wb") as stream:
        stream.truncate(100 << 20)


def _of_another_user(path: Path) -> None:
    path.write_text(text(RECORD))
    os.chown(path, 12345, 12345)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        pytest.param(lambda _: None, "No such file", id="absent"),
        pytest.param(lambda path: path.mkdir(), "not a regular file", id="directory"),
        pytest.param(_fifo, "not a regular file", id="fifo"),
        pytest.param(_large, "at most", id="100-mb"),
        pytest.param(_of_another_user, "another user", id="someone-elses"),
        pytest.param(lambda path: path.write_bytes(b""), "not a record", id="empty"),
        pytest.param(lambda path: path.write_bytes(b"\x80\x04."), "not a record", id="binary"),
        pytest.param(lambda path: path.write_text("[]\n"), "not a record", id="list"),
        pytest.param(lambda path: path.write_text('{"format": 9, "made_for": {}}\n'), "format 9", id="newer"),
        pytest.param(lambda path: path.write_text(text(RECORD) + "/x\t5"), "not a record", id="no-range"),
    ],
)
@LINUX
def test_unusable_record(tmp_path: Path, make: Callable[[Path], None], reason: str) -> None:
    """Whatever lies there, the reason is said and nothing hangs."""
    if make is _of_another_user and os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    make(tmp_path / "startup.trace")

    with pytest.raises(RecordError, match=reason):
        read(tmp_path / "startup.trace")


def test_odd_names() -> None:
    """Files whose names would break a line are left out; the others stay."""
    record = StartupRecord(
        HERE, {"/a\tb": ((0, 1),), "/a\nb": ((0, 1),), "/caf\udce9": ((0, 1),), "/ok": ((0, 1),)}
    )

    assert ["/caf\udce9", "/ok"] == list(parse(text(record).encode(errors="surrogateescape")).files)


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([], ()),
        ([(0, 5)], ((0, 5),)),
        ([(10, 20), (0, 5)], ((0, 20),)),
        ([(0, 5), (100, 200)], ((0, 5), (100, 200))),
        ([(0, 50), (10, 20)], ((0, 50),)),
    ],
)
def test_merged(parts: list[tuple[int, int]], expected: startup_record.Ranges) -> None:
    """Parts that lie close together are read in one go."""
    assert expected == merged(parts, 10)


CHILD = """
import json, sys
sys.path.insert(0, sys.argv[1])
import _ctypes, decimal
from comfy_preload.core.machine.startup_record import text
from comfy_preload.core.machine.startup_trace import trace
print(text(trace({})), end="")
"""


@LINUX
def test_trace() -> None:
    """The record holds modules' bytecode and libraries' touched parts, an extension after its libraries."""
    root = Path(__file__).resolve().parents[3]
    said = subprocess.run(
        [sys.executable, "-c", CHILD, str(root)], check=True, capture_output=True, timeout=60
    )
    files = parse(said.stdout).files

    names = [Path(file).name.partition(".")[0] for file in files]
    assert {"json", "decimal", "startup_trace"} <= {name for name in names if name != "__init__"} | {"json"}
    extension = next(file for file in files if Path(file).name.startswith("_ctypes."))
    assert all(0 <= first < last <= Path(extension).stat().st_size for first, last in files[extension])
    assert all(Path(file).is_file() for file in files)


def _evicted(path: Path, size: int) -> Path:
    path.write_bytes(os.urandom(size))
    handle = os.open(path, os.O_RDONLY)
    os.fsync(handle)
    os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(handle)
    return path


def _read_ahead(tmp_path: Path, *records: StartupRecord, budget: int = 1 << 30) -> dict[str, object]:
    names = [tmp_path / f"{number}.trace" for number, _ in enumerate(records)]
    for name, record in zip(names, records, strict=True):
        write(name, text(record))
    reader = StartupReader()
    reader.start(names, torch=tmp_path / "torch", made_for=HERE, budget=budget, readers=2)
    said = reader.wait()
    assert said is not None
    return said


@LINUX
def test_read_ahead(tmp_path: Path) -> None:
    """The recorded parts are in the page cache afterwards.

    What is gone, a FIFO or a directory costs nothing.
    """
    file = _evicted(tmp_path / "library.so", 4 << 20)
    os.mkfifo(tmp_path / "fifo")
    files = {str(tmp_path / name): ((0, 100),) for name in ("gone", "fifo", ".")}
    said = _read_ahead(tmp_path, StartupRecord(HERE, {**files, str(file): ((0, 4 << 20),)}))

    assert [] == uncached(file, 4 << 20)
    assert (4 << 20, 4) == (said["bytes"], said["files"])


def _is_cached(path: Path, offset: int) -> bool:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_RANDOM)  # asking must not read ahead
        return os.preadv(handle, [bytearray(1)], offset, os.RWF_NOWAIT) == 1
    except BlockingIOError:
        return False
    finally:
        os.close(handle)


@LINUX
def test_read_ahead_no_further(tmp_path: Path) -> None:
    """What lies behind a part is not read, however far the disk reads ahead."""
    file = _evicted(tmp_path / "library.so", 16 << 20)
    if _is_cached(file, 0):
        pytest.skip("a file system in memory")
    _read_ahead(tmp_path, StartupRecord(HERE, {str(file): ((0, 3 << 20), (8 << 20, 9 << 20))}))

    expected = {0: True, 2: True, 3: False, 5: False, 8: True, 9: False, 12: False}
    assert expected == {megabytes: _is_cached(file, megabytes << 20) for megabytes in expected}


@LINUX
def test_environment_that_changes(tmp_path: Path) -> None:
    """ComfyUI's main.py sets variables while the process is started: that must not stop it."""
    over = threading.Event()

    def change() -> None:
        names = [f"CHANGES_{number}" for number in range(3000)]
        while not over.is_set():
            for name in names:
                os.putenv(name, "x")
            for name in names:
                os.unsetenv(name)

    changing = threading.Thread(target=change)
    changing.start()
    try:
        for _ in range(30):
            reader = StartupReader()
            reader.start([tmp_path / "absent"], torch=tmp_path, made_for=HERE, budget=0, readers=1)
            reader.stop()
            reader.wait()
    finally:
        over.set()
        changing.join()


@LINUX
def test_another_python(tmp_path: Path) -> None:
    """A record for another Python, torch or ComfyUI is refused.

    The next that fits is read, else there is a guess.
    """
    file = _evicted(tmp_path / "library.so", 1 << 20)
    parts = {str(file): ((0, 1 << 20),)}
    others = [StartupRecord({**HERE, key: "9"}, parts) for key in HERE]

    assert ("", 0) == tuple(_read_ahead(tmp_path, *others)[key] for key in ("record", "bytes"))
    said = _read_ahead(tmp_path, *others, StartupRecord(HERE, parts))
    assert (str(tmp_path / "3.trace"), 1 << 20) == (said["record"], said["bytes"])


@LINUX
def test_budget(tmp_path: Path) -> None:
    """No more is read than memory allows, the first parts first."""
    file = _evicted(tmp_path / "library.so", 2 << 20)
    record = StartupRecord(HERE, {str(file): ((0, 1 << 20), (1 << 20, 2 << 20))})

    assert 1 << 20 == _read_ahead(tmp_path, record, budget=(2 << 20) - 1)["bytes"]


@LINUX
def test_stopped(tmp_path: Path) -> None:
    """Stopped, it ends and says nothing; stopping twice, or before it began, does nothing."""
    reader = StartupReader()
    reader.stop()
    assert reader.wait() is None
    reader.start([tmp_path / "absent"], torch=tmp_path, made_for=HERE, budget=0, readers=1)
    reader.stop()
    reader.stop()
    said = reader.wait()
    assert said is None or said["bytes"] == 0


def test_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without sendfile (Windows) or on macOS no process is started."""
    monkeypatch.setattr(sys, "platform", "darwin")
    reader = StartupReader()
    reader.start([tmp_path], torch=tmp_path, made_for=HERE, budget=1, readers=1)

    assert reader.wait() is None


def test_versions(tmp_path: Path) -> None:
    """They come from files: nothing is imported."""
    (tmp_path / "comfyui_version.py").write_text('# made\n__version__ = "0.3.75"\n')
    found = startup_record.versions(tmp_path)

    assert "0.3.75" == found["comfyui"]
    assert json.loads(json.dumps(found)) == found
    assert startup_trace.package_of("/x/site-packages/torch/lib/libc10.so") == "torch"
