"""Each provider on real files: what it writes, what it takes for an answer, and what it says otherwise."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from comfy_preload.core.errors import PreloadError
from comfy_preload.core.settings.glance import SnapshotGlance
from comfy_preload.stages import providers
from comfy_preload.stages.providers import (
    CONTROL_VARIABLES,
    READY,
    Command,
    ControlFolder,
    File,
    GVisor,
    Provider,
    Result,
    provider_of,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "control"
    made.mkdir()
    return made


@pytest.fixture
def mounted(folder: Path) -> Iterator[Callable[[str], Path]]:
    """Mount a file system of one page at the folder, with these options."""
    used = False

    def mount(options: str) -> Path:
        nonlocal used
        command = ["mount", "-t", "tmpfs", "-o", f"size=4096,{options}", "none", str(folder)]
        if subprocess.run(command, check=False, capture_output=True).returncode:
            pytest.skip("nothing can be mounted here (root on Linux can)")
        used = True
        return folder

    yield mount
    if used:
        subprocess.run(["umount", str(folder)], check=True)


def refusal(provider: Provider) -> tuple[str, str]:
    with pytest.raises(PreloadError) as caught:
        provider.announce()
    return caught.value.problem.code, caught.value.problem.message


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def answer(provider: Provider) -> Result:
    """Wait for it."""
    end = time.monotonic() + 10
    while (found := provider.answer()) is None:
        assert time.monotonic() < end
        time.sleep(0.01)
    return found


# -- NVIDIA Dynamo ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "expected"), [("restore-complete", Result.RESTORE), ("snapshot-complete", Result.RESUME)]
)
def test_control_folder(folder: Path, file: str, expected: Result) -> None:
    """Both names of the ready file, and nothing beside them; then the answer; then nothing is left."""
    provider = ControlFolder(folder)
    provider.announce()
    assert ({*READY}, None) == (names(folder), provider.answer())

    (folder / file).touch()
    assert expected is provider.answer()
    provider.close()
    assert set() == names(folder)


def test_crashed_while_held(folder: Path) -> None:
    """Its container starts again: the announcement is taken back before the imports, an answer is not."""
    for file in (*READY, "restore-complete"):
        (folder / file).touch()
    ControlFolder(folder).clear()

    assert {"restore-complete"} == names(folder)


def test_both_answers(folder: Path) -> None:
    """RESTORE is the one that does no harm in the wrong process."""
    for file in ("restore-complete", "snapshot-complete"):
        (folder / file).touch()
    assert Result.RESTORE is ControlFolder(folder).answer()


@pytest.mark.parametrize("file", ["restore-complete", "snapshot-complete"])
def test_stale_answer(folder: Path, file: str) -> None:
    """An answer from before is not an answer: it is reported, and nothing is announced."""
    (folder / file).touch()
    code, message = refusal(ControlFolder(folder))

    assert ("snapshot_stale", True) == (code, file in message)
    assert {file} == names(folder)


def test_missing_folder(tmp_path: Path) -> None:
    code, message = refusal(ControlFolder(tmp_path / "nowhere"))

    assert ("snapshot_not_announced", True) == (code, "No such file or directory" in message)
    assert str(tmp_path) not in message


def test_read_only_folder(mounted: Callable[[str], Path]) -> None:
    code, message = refusal(ControlFolder(mounted("ro")))
    assert ("snapshot_not_announced", True) == (code, "Read-only file system" in message)


def test_full_folder(mounted: Callable[[str], Path]) -> None:
    """An agent goes by the name alone: no empty file of that name is left."""
    folder = mounted("rw")
    (folder / "fill").write_bytes(bytes(4096))
    code, message = refusal(ControlFolder(folder))

    assert ("snapshot_not_announced", True) == (code, "No space left" in message)
    assert {"fill"} == names(folder)


# -- gVisor -------------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="needs a pseudo-terminal")
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("resume\n", Result.RESUME),
        ("restore\n", Result.RESTORE),
        ("error\n", Result.ERROR),
        ("what\n", Result.ERROR),
    ],
)
def test_gvisor(line: str, expected: Result) -> None:
    """A device that takes `1` and then holds the read until there is an answer: a terminal does too."""
    kernel, process = os.openpty()
    try:
        provider = GVisor(Path(os.ttyname(process)))
        provider.announce()
        assert os.read(kernel, 64).startswith(b"1")
        assert provider.answer() is None
        os.write(kernel, line.encode())
        assert expected is answer(provider)
        assert provider.reason
    finally:
        os.close(kernel)
        os.close(process)


def test_gvisor_missing(tmp_path: Path) -> None:
    assert "snapshot_not_announced" == refusal(GVisor(tmp_path / "checkpoint"))[0]


@pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/full")
def test_gvisor_refuses() -> None:
    """A second copy, or one that the container may not ask for: the write fails."""
    provider = GVisor(Path("/dev/full"))
    provider.announce()

    assert (Result.ERROR, "No space left on device") == (answer(provider), provider.reason)


# -- others -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["restore", "resume", "error"])
def test_file(tmp_path: Path, word: str) -> None:
    provider = File(tmp_path / "word")
    provider.announce()
    assert ({"word"}, None) == (names(tmp_path), provider.answer())

    (tmp_path / "word").write_text(f"{word}\n", encoding="utf-8")
    assert Result(word) is provider.answer()
    provider.close()
    assert set() == names(tmp_path)


def test_file_removed(tmp_path: Path) -> None:
    """Platforms that can do no more than remove it."""
    provider = File(tmp_path / "word")
    provider.announce()
    (tmp_path / "word").unlink()

    assert Result.RESTORE is provider.answer()


@pytest.mark.parametrize("content", [b"half a wor", b"\xff\xfe"])
def test_file_half_written(tmp_path: Path, content: bytes) -> None:
    provider = File(tmp_path / "word")
    provider.announce()
    (tmp_path / "word").write_bytes(content)

    assert provider.answer() is None


def test_file_crashed_while_held(tmp_path: Path) -> None:
    """As with the control directory."""
    for content, left in (("ready\n", set[str]()), ("restore\n", {"word"})):
        (tmp_path / "word").write_text(content, encoding="utf-8")
        File(tmp_path / "word").clear()
        assert left == names(tmp_path)


def test_file_stale(tmp_path: Path) -> None:
    """What an earlier process announced counts for nothing; what it was answered is reported."""
    (tmp_path / "word").write_text("ready\n", encoding="utf-8")
    File(tmp_path / "word").announce()
    (tmp_path / "word").write_text("restore\n", encoding="utf-8")

    assert "snapshot_stale" == refusal(File(tmp_path / "word"))[0]


@pytest.mark.parametrize(
    ("code", "expected", "reason"),
    [
        ("print('copied'); print('restore')", Result.RESTORE, ""),
        ("print('resume')", Result.RESUME, ""),
        ("print('error')", Result.ERROR, "printed 'error'"),
        ("raise SystemExit(3)", Result.ERROR, "exit status 3"),
        ("pass", Result.ERROR, "last word"),
        ("print('x' * 1_000_000)", Result.ERROR, "last word"),
    ],
)
def test_command(code: str, expected: Result, reason: str) -> None:
    provider = Command((sys.executable, "-c", code))
    provider.announce()
    found = answer(provider)
    provider.close()

    assert expected is found
    assert reason in provider.reason


def test_command_that_hangs() -> None:
    """It does not outlive the hold."""
    provider = Command((sys.executable, "-c", "import time; time.sleep(600)"))
    provider.announce()
    assert provider.answer() is None
    provider.close()

    with pytest.raises(ValueError, match="closed"):  # it has ended, so its output is looked at
        provider.answer()


def test_command_missing() -> None:
    assert "snapshot_not_announced" == refusal(Command(("no-such-program-anywhere",)))[0]


# -- which --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variable", CONTROL_VARIABLES)
def test_auto_dynamo(monkeypatch: pytest.MonkeyPatch, folder: Path, variable: str) -> None:
    for name in CONTROL_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, str(folder))
    found = provider_of(SnapshotGlance())
    assert found
    found.announce()

    assert {*READY} == names(folder)


@pytest.mark.parametrize("is_there", [True, False])
def test_auto_gvisor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, is_there: bool) -> None:
    """Where neither is, nothing is waited for."""
    for name in CONTROL_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(providers, "GVISOR", tmp_path / "checkpoint")
    if is_there:
        (tmp_path / "checkpoint").touch()
    found = provider_of(SnapshotGlance())

    assert (found.name if found else None) == ("gvisor" if is_there else None)


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        (SnapshotGlance(provider="dynamo"), ControlFolder),
        (SnapshotGlance(provider="gvisor"), GVisor),
        (SnapshotGlance(provider="file", path="x"), File),
        (SnapshotGlance(provider="command", command=("x",)), Command),
        (SnapshotGlance(provider="file"), type(None)),
        (SnapshotGlance(provider="command"), type(None)),
    ],
)
def test_named(options: SnapshotGlance, kind: type[object]) -> None:
    assert kind is type(provider_of(options))
