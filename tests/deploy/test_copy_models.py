"""The copy of models to a node's own disk: once, whole or not at all, whatever happens in between.

The real script.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.tools import program

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it runs in Linux containers")

FOLDER = Path(__file__).resolve().parents[2] / "deploy"
SCRIPT = FOLDER / "kubernetes" / "components" / "node-cache" / "copy-models.sh"
NAMES = (
    "checkpoints/sd 'xl' \"base\".safetensors",
    "vae/模型 一.safetensors",
    "loras/-x.safetensors",
    "vae/same.safetensors",
)
MIB = 1 << 20


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Models with names that shells stumble over; the last two have the same content."""
    folder = tmp_path / "source"
    for number, name in enumerate(NAMES):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(bytes([min(number, 2)]) * MIB + b"end")
    return listed(folder)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "target").mkdir()
    return tmp_path / "target"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for two and a half of the models."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={5 * MIB // 2}", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def listed(folder: Path) -> Path:
    """With its SHA256SUMS, made as the script says."""
    command = "find . -type f ! -name SHA256SUMS -exec sha256sum {} + > SHA256SUMS"
    assert command in SCRIPT.read_text(encoding="utf-8")
    subprocess.run(["sh", "-c", command], cwd=folder, check=True)
    return folder


def begin(source: Path, target: Path, **env: str) -> subprocess.Popen[str]:
    """In a process group of its own, as a container is."""
    return subprocess.Popen(
        ["sh", str(SCRIPT), str(source), str(target)],
        env=os.environ | env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def run(source: Path, target: Path, **env: str) -> tuple[int, str]:
    process = begin(source, target, **env)
    said, _ = process.communicate(timeout=30)
    return process.returncode, said


def in_the_way(tmp_path: Path, tail: str) -> str:
    """A PATH on which `tail`, the program that copies, is ours."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "tail").write_text(f"#!/bin/sh\nreal={shutil.which('tail')}\n{tail}\n", encoding="utf-8")
    (folder / "tail").chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


def same(source: Path, target: Path) -> bool:
    return all((source / name).read_bytes() == (target / name).read_bytes() for name in NAMES)


def test_shellcheck() -> None:
    ran = subprocess.run([program("shellcheck"), str(SCRIPT)], capture_output=True, text=True, check=False)

    assert 0 == ran.returncode, ran.stdout


def test_chart_has_the_same_script() -> None:
    """Neither helm nor kustomize reads files outside its own folder, so there are two."""
    assert (
        SCRIPT.read_bytes() == (FOLDER / "helm" / "comfyui-preload" / "files" / "copy-models.sh").read_bytes()
    )


def test_copies_once(source: Path, target: Path) -> None:
    """All files arrive; a second run copies and reads none."""
    code, said = run(source, target)
    assert (0, len(NAMES)) == (code, said.count(": copied")), said
    assert same(source, target)
    assert [] == list((target / ".partial").iterdir())

    (code, said), began = run(source, target), [(target / name).stat().st_ino for name in NAMES]
    assert (0, "copy-models: all files are there and right\n") == (code, said)
    assert began == [(target / name).stat().st_ino for name in NAMES]


def test_two_at_once(source: Path, target: Path, tmp_path: Path) -> None:
    """Two pods begin on one node: one copies, the other waits, both find all files."""
    path = in_the_way(tmp_path, 'sleep 0.1; exec "$real" "$@"')
    both = [begin(source, target, PATH=path) for _ in range(2)]
    said = [process.communicate(timeout=30)[0] for process in both]

    assert [0, 0] == [process.returncode for process in both], said
    assert len(NAMES) == sum(text.count(": copied") for text in said)
    assert 1 == sum("waiting for it" in text for text in said)
    assert same(source, target)


def test_killed(source: Path, target: Path, tmp_path: Path) -> None:
    """Killed in the middle of a file.

    No half file under a name; the next run goes on at that byte, the lock is free.
    """
    path = in_the_way(tmp_path, f'"$real" "$@" | head -c {MIB // 2}; exec sleep 60')
    process = begin(source, target, PATH=path)
    end = time.monotonic() + 20
    while sum(file.stat().st_size for file in (target / ".partial").glob("*")) < MIB // 2:
        assert time.monotonic() < end
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not any((target / name).exists() for name in NAMES)

    code, said = run(source, target)
    assert (0, 1) == (code, said.count(f"going on at byte {MIB // 2}")), said
    assert same(source, target)


def test_killed_and_torn(source: Path, target: Path) -> None:
    """What was written before a power cut is not what should be there: noticed, copied from the beginning."""
    digest = hashlib.sha256((source / NAMES[0]).read_bytes()).hexdigest()
    (target / ".partial").mkdir()
    (target / ".partial" / digest).write_bytes(b"\xff" * 1000)
    (target / ".partial" / ("0" * 64)).write_bytes(b"of an older list")
    code, said = run(source, target)

    assert (0, 1) == (code, said.count("the first copy does not match")), said
    assert same(source, target)
    assert [] == list((target / ".partial").iterdir())


@pytest.mark.parametrize("how", ["changed", "cut off", "gone", "replaced by the same"])
def test_corrupted(source: Path, target: Path, how: str) -> None:
    """A file on the node that is not what it was.

    Found by its times and size, read, and copied again if it differs.
    """
    run(source, target)
    file = target / NAMES[1]
    content = file.read_bytes()
    file.unlink()
    if how != "gone":
        file.write_bytes(
            {"changed": b"!" + content[1:], "cut off": content[:9], "replaced by the same": content}[how]
        )
    code, said = run(source, target)

    assert (0, how != "replaced by the same") == (code, said.count(": copied")), said
    assert same(source, target)


def test_silently_corrupted(source: Path, target: Path) -> None:
    """Bits that rot change no time: VERIFY=always reads everything."""
    run(source, target)
    file = target / NAMES[0]
    remembered = target / ".verified" / NAMES[0]
    digest = remembered.read_text(encoding="utf-8").partition(" ")[0]
    file.write_bytes(b"!" + file.read_bytes()[1:])
    command = ["stat", "-c", "%s %y %z %i", str(file)]
    facts = subprocess.run(
        command, capture_output=True, text=True, check=True, env={"TZ": "UTC", "PATH": os.environ["PATH"]}
    )
    remembered.write_text(f"{digest} {facts.stdout}", encoding="utf-8")
    assert "copied" not in run(source, target)[1]

    assert 1 == run(source, target, VERIFY="always")[1].count(": copied")
    assert same(source, target)


def test_new_version(source: Path, target: Path) -> None:
    """A model is replaced in the source: it alone is copied; a process that has the old one open keeps it."""
    run(source, target)
    before = (target / NAMES[0]).read_bytes()
    with (target / NAMES[0]).open("rb") as held:
        (source / NAMES[0]).write_bytes(b"new")
        code, said = run(listed(source), target)
        assert before == held.read()

    assert (0, 1) == (code, said.count(": copied")), said
    assert same(source, target)


def days_ago(target: Path, name: str, days: float) -> Path:
    """Make it look as if nobody had asked for a model since then; its mark."""
    mark = target / ".verified" / name
    then = time.time() - days * 86_400
    os.utime(mark, (then, then))
    return mark


def test_prunes(source: Path, target: Path) -> None:
    """With PRUNE_DAYS, what no list named for so long goes; what is listed, younger or another's stays."""
    assert 0 == run(source, target)[0]
    (target / "mine.bin").write_bytes(b"not from any list")
    listed_, old, young, _ = NAMES
    for name in (old, young):
        (source / name).unlink()
    listed(source)
    days_ago(target, listed_, 31)
    mark = days_ago(target, old, 31)
    days_ago(target, young, 29)

    assert 0 == run(source, target)[0], "without PRUNE_DAYS nothing goes"
    assert (target / old).exists()
    days_ago(target, listed_, 31)
    code, said = run(source, target, PRUNE_DAYS="30")
    assert (0, True) == (code, f"{old}: removed, nobody asked for it in 30 days" in said)
    assert [True, False, True, True] == [(target / name).exists() for name in NAMES]
    assert (target / "mine.bin").exists()
    assert not mark.exists()
    assert 1 == said.count("removed")

    listed(source)
    assert 0 == run(source, target, PRUNE_DAYS="30")[0], "and it can be listed again"


@pytest.mark.parametrize("days", ["a week", "-1", "1.5"])
def test_bad_prune_days(source: Path, target: Path, days: str) -> None:
    """Nothing is copied and nothing removed on a guess."""
    code, said = run(source, target, PRUNE_DAYS=days)

    assert (1, True) == (code, f"PRUNE_DAYS is '{days}', not a number of days" in said)
    assert [] == list(target.iterdir())


def test_no_room(source: Path, small_disk: Path) -> None:
    """Told before anything is copied, with both figures."""
    code, said = run(source, small_disk)

    assert 1 == code
    assert f"not enough room: {len(NAMES) * (MIB + 3)} bytes to copy, " in said
    assert not any((small_disk / name).exists() for name in NAMES)


def test_disk_fills_up(source: Path, small_disk: Path, tmp_path: Path) -> None:
    """Somebody else fills it meanwhile.

    A clear end, what was begun is taken back; with room again it goes on.
    """
    for name in NAMES[2:]:
        (source / name).unlink()
    listed(source)
    path = in_the_way(
        tmp_path,
        f'[ -e {small_disk}/other ] || head -c {2 * MIB} /dev/zero > {small_disk}/other; exec "$real" "$@"',
    )
    code, said = run(source, small_disk, PATH=path)
    assert (1, True) == (code, "the disk is full" in said), said
    assert [] == list((small_disk / ".partial").iterdir())

    (small_disk / "other").unlink()
    assert 0 == run(source, small_disk)[0]
    assert all((source / name).read_bytes() == (small_disk / name).read_bytes() for name in NAMES[:2])


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (f"{'0' * 64}  vae/same.safetensors", "is damaged, or its line in SHA256SUMS is out of date"),
        (f"{'0' * 64}  ../outside", "is not a name for a model"),
        (f"{'0' * 64}  /etc/passwd", "is not a name for a model"),
        (f"{'0' * 64}  .lock", "is not a name for a model"),
        (f"{'0' * 64}  nowhere", "in SHA256SUMS, but not in the source"),
        (f"{'0' * 40}  vae/same.safetensors", "is not a SHA-256"),
        ("<html>", "is not a checksum"),
        (f"\\{'0' * 64}  a\\nb", "is not a checksum"),
    ],
    ids=["wrong sum", "outside", "absolute", "ours", "missing", "SHA-1", "garbage", "line break"],
)
def test_bad_list(source: Path, target: Path, line: str, words: str) -> None:
    """A list that cannot be right ends the copy with the name; nothing wrong appears under a model's name."""
    (source / "SHA256SUMS").write_text(line, encoding="utf-8")
    code, said = run(source, target)

    assert (1, True) == (code, words in said), said
    assert {".lock", ".partial", ".verified"} >= {path.name for path in target.iterdir()}


def test_no_list(source: Path, target: Path) -> None:
    (source / "SHA256SUMS").unlink()

    assert (1, True) == (
        (found := run(source, target))[0],
        "there is no SHA256SUMS in the source" in found[1],
    )
