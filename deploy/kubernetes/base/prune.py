"""Removes the oldest pictures of ComfyUI's volumes before one is full: a sidecar of the chart.

Standard library only.

    prune.py --minutes 1440 --percent 80 /volumes/scratch=20Gi /volumes/tmp=2Gi

Of each volume it looks at the folders `output` (pictures), `temp` (previews) and `input` (uploads). A file of
the first two goes when it is older than `--minutes` (0: age does not matter). The oldest go, those of `input`
last, while the whole volume holds more than `--percent` of its size, or, without a size, while more than that
share of its file system is used. A file younger than a minute stays: it may still be written or fetched.
Links are not followed; empty folders stay.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

YOUNG = 60.0
BY_AGE = ("output", "temp")
FOR_ROOM = ("input",)
"""Uploads may be used again: they go only when nothing else is left."""
_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15} | {
    f"{unit}i": 1024**power for power, unit in enumerate("KMGTP", 1)
}


class File(NamedTuple):
    """A regular file. The oldest sorts first."""

    modified: float
    path: str
    size: int


def quantity(text: str) -> int:
    """Return the bytes of a Kubernetes quantity such as 20Gi.

    Raises:
        ValueError: It is not one.
    """
    number = text.rstrip("kKMGTPi")
    return int(float(number) * _UNITS[text[len(number) :]])


def files(folder: Path) -> Iterator[File]:
    """Yield all files below the folder; one that is gone meanwhile is left out."""
    for parent, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(parent, name)
            try:
                found = os.lstat(path)
            except OSError:
                continue
            yield File(found.st_mtime, path, found.st_blocks * 512 if os.name == "posix" else found.st_size)


class Volume(NamedTuple):
    """Where it is mounted, and its size in bytes if it is not that of its file system."""

    path: Path
    size: int | None


def volume(text: str) -> Volume:
    """Return what `PATH` or `PATH=SIZE` names. Raises ValueError if the size is none."""
    path, equals, size = text.partition("=")
    try:
        return Volume(Path(path), quantity(size) if equals else None)
    except KeyError as error:
        raise ValueError(f"{size!r} is not a size such as 20Gi") from error


def excess(volume: Volume, percent: float) -> int:
    """Return by how many bytes it is over its share; not positive if it is not."""
    if volume.size is not None:
        return sum(one.size for one in files(volume.path)) - int(volume.size * percent / 100)
    disk = os.statvfs(volume.path)
    used = (disk.f_blocks - disk.f_bfree) * disk.f_frsize
    return used - int(disk.f_blocks * disk.f_frsize * percent / 100)


def prune(volume: Volume, minutes: float, percent: float, now: float) -> tuple[int, int]:
    """Look once. Return how many files were removed, and how many bytes are still too many."""
    over, removed = excess(volume, percent), 0
    for folders, ages in ((BY_AGE, minutes), (FOR_ROOM, 0.0)):
        for one in sorted(one for name in folders for one in files(volume.path / name)):
            too_old = bool(ages) and now - one.modified > ages * 60
            if now - one.modified < YOUNG or not (too_old or over > 0):
                continue
            try:
                os.unlink(one.path)
            except FileNotFoundError:
                continue
            except OSError as error:
                print(f"prune: {one.path!r}: {error.strerror}", file=sys.stderr)
                continue
            removed += 1
            over -= one.size
    return removed, max(0, over)


def main() -> None:
    """Look every 30 seconds until SIGTERM."""
    parser = argparse.ArgumentParser(description="Removes the oldest files of volumes.")
    parser.add_argument("--minutes", type=float, default=0)
    parser.add_argument("--percent", type=float, default=80)
    parser.add_argument("--once", action="store_true")
    parser.add_argument("volumes", type=volume, nargs="+", metavar="VOLUME[=SIZE]")
    given = parser.parse_args()
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    while True:
        for one in given.volumes:
            removed, over = prune(one, given.minutes, given.percent, time.time())
            if removed:
                print(f"prune: {one.path}: {removed} files removed", flush=True)
            if over:
                print(
                    f"prune: {one.path}: {over} bytes too many that may not go", file=sys.stderr, flush=True
                )
        if given.once or stop.wait(30):
            return


if __name__ == "__main__":
    main()
