"""Removes the oldest pictures of a folder before its disk is full: a sidecar of the chart.

Standard library only.

    prune.py --minutes 1440 --percent 80 --size 20Gi /data/output

A file goes when it is older than `--minutes` (0: age does not matter), and the oldest go while the folder
holds more than `--percent` of `--size`, or, without `--size`, while more than that share of its file system
is used. A file younger than a minute stays: it may still be written or fetched. Links are not followed; empty
folders stay.
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


def excess(folder: Path, held: int, percent: float, size: int | None) -> int:
    """Return by how many bytes the folder is over its share; at most 0 if it is not."""
    if size is not None:
        return held - int(size * percent / 100)
    disk = os.statvfs(folder)
    used = (disk.f_blocks - disk.f_bfree) * disk.f_frsize
    return used - int(disk.f_blocks * disk.f_frsize * percent / 100)


def prune(folder: Path, minutes: float, percent: float, size: int | None, now: float) -> tuple[int, int]:
    """Look once. Return how many files were removed, and how many bytes are still too many."""
    found = sorted(files(folder))
    over = excess(folder, sum(one.size for one in found), percent, size)
    removed = 0
    for one in found:
        too_old = bool(minutes) and now - one.modified > minutes * 60
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
    parser = argparse.ArgumentParser(description="Removes the oldest files of a folder.")
    parser.add_argument("--minutes", type=float, default=0)
    parser.add_argument("--percent", type=float, default=80)
    parser.add_argument("--size", type=quantity)
    parser.add_argument("--once", action="store_true")
    parser.add_argument("folder", type=Path)
    given = parser.parse_args()
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    while True:
        removed, over = prune(given.folder, given.minutes, given.percent, given.size, time.time())
        if removed:
            print(f"prune: {removed} files removed", flush=True)
        if over:
            print(f"prune: {over} bytes too many, all of them new", file=sys.stderr, flush=True)
        if given.once or stop.wait(30):
            return


if __name__ == "__main__":
    main()
