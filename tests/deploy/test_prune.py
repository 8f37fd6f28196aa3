"""prune.py, as the chart runs it: real files, real processes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.scripts import FILES, command, load

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it runs in Linux containers")
prune: Any = load("prune")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Ten pictures of 100 KiB, an hour to ten hours old, one of them in a folder.

    Names that shells stumble over.
    """
    for hour in range(1, 11):
        file = tmp_path / "output" / ("sub" if hour == 5 else "") / f"图 '{hour}'\n.png"
        file.parent.mkdir(exist_ok=True, parents=True)
        file.write_bytes(bytes(102_400))
        then = time.time() - hour * 3600
        os.utime(file, (then, then))
    return tmp_path


def left(folder: Path) -> list[int]:
    return sorted(int(re.findall(r"\d+", file.name)[0]) for file in folder.rglob("*.png"))


def pruned(folder: Path, *words: str, size: str = "") -> str:
    volume = f"{folder}={size}" if size else str(folder)
    ran = subprocess.run(
        [sys.executable, str(FILES / "prune.py"), "--once", *words, volume],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return ran.stdout + ran.stderr


def test_prune_by_age(pictures: Path) -> None:
    pruned(pictures, "--minutes", "390", size="1Gi")

    assert [1, 2, 3, 4, 5, 6] == left(pictures)


def test_prune_by_size(pictures: Path) -> None:
    """The oldest go until the folder is below its share; what lies outside by a link is not touched."""
    outside = pictures.parent / f"{pictures.name}-outside"
    outside.write_bytes(bytes(10))
    (pictures / "output" / "link").symlink_to(outside)
    pruned(pictures, "--percent", "80", size="640Ki")

    assert [1, 2, 3, 4, 5] == left(pictures)
    assert outside.exists()


def test_prune_keeps_what_is_new(pictures: Path) -> None:
    """A picture that is written or fetched just now stays, and the log says that there is too much."""
    for file in pictures.rglob("*.png"):
        os.utime(file)
    assert "bytes too many that may not go" in pruned(pictures, size="100Ki")

    assert 10 == len(left(pictures))


def test_prune_by_the_file_system(pictures: Path) -> None:
    """Without a size it is the share of the file system, as on a claim."""
    pruned(pictures, "--percent", "100")
    assert 10 == len(left(pictures))
    pruned(pictures, "--percent", "0.0001")
    assert [] == left(pictures)


@pytest.mark.parametrize(("text", "size"), [("20Gi", 20 << 30), ("1.5k", 1500), ("7", 7), ("2M", 2_000_000)])
def test_quantity(text: str, size: int) -> None:
    assert size == prune.quantity(text)


@pytest.mark.parametrize("text", ["", "Gi", "20GB", "a lot", "1KiB"])
def test_not_a_quantity(text: str) -> None:
    with pytest.raises((ValueError, KeyError)):
        prune.quantity(text)


def put(file: Path, hours: float) -> Path:
    """A file of 100 KiB, so old."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(bytes(102_400))
    then = time.time() - hours * 3600
    os.utime(file, (then, then))
    return file


def test_prune_what_may_go(tmp_path: Path) -> None:
    """Previews are as pictures; uploads go last, never by age; the rest never, but it counts."""
    picture, preview = put(tmp_path / "output" / "a.png", 1), put(tmp_path / "temp" / "b.png", 2)
    old, new = put(tmp_path / "input" / "c.png", 99), put(tmp_path / "input" / "d.png", 0)
    settings, cache = put(tmp_path / "user" / "e.json", 99), put(tmp_path / "torchinductor" / "f.so", 99)
    every = (picture, preview, old, new, settings, cache)

    pruned(tmp_path, "--minutes", "300", size="1Gi")
    assert all(file.exists() for file in every), "by age only pictures and previews go"
    pruned(tmp_path, "--percent", "100", size="500Ki")
    assert [True, False, True, True, True, True] == [file.exists() for file in every], "the oldest first"
    said = pruned(tmp_path, "--percent", "100", size="100Ki")
    assert [False, False, False, True, True, True] == [file.exists() for file in every]
    assert "bytes too many that may not go" in said


def test_prune_several(tmp_path: Path) -> None:
    """Each volume has its own size, and one that is not a size is refused."""
    one, two = put(tmp_path / "one" / "output" / "a.png", 1), put(tmp_path / "two" / "temp" / "a.png", 1)
    pruned(tmp_path / "one", f"{tmp_path / 'two'}=1Ki", size="1Gi")

    assert [True, False] == [one.exists(), two.exists()]
    with pytest.raises(subprocess.CalledProcessError):
        pruned(tmp_path, size="20GB")


def test_prune_ends_at_once(pictures: Path) -> None:
    """As process 1 it needs a handler for SIGTERM; it prunes first."""
    words = command("prune", **{"/volumes/scratch=20Gi": f"{pictures}=20Gi"})
    words = [word for word in words if not word.startswith("/volumes/")]
    words[words.index("1440")] = "30"
    process = subprocess.Popen(words)
    end = time.monotonic() + 20
    while left(pictures):
        assert time.monotonic() < end
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)

    assert 0 == process.wait(10)
