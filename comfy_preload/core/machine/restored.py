"""What a restored copy of this process must not share with the other copies."""

from __future__ import annotations

import os
import random
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path


def variables_in(path: Path) -> Mapping[str, str]:
    """Read environment variables from a file: NAME=value, separated by NUL or by lines.

    /proc/…/environ has NUL. A file that cannot be read has none.
    """
    try:
        text = path.read_bytes().decode("utf-8", "surrogateescape")
    except OSError:
        return {}
    pairs = (row.partition("=") for row in text.split("\0" if "\0" in text else "\n"))
    return {name.strip(): value for name, equals, value in pairs if name.strip() and equals}


def renew_environment(before: Mapping[str, str], now: Mapping[str, str]) -> tuple[str, ...]:
    """Set what is new, remove what is no longer there. Return the names that changed, sorted.

    What this process has set itself stays. Without variables now, nothing changes.
    """
    if not now:
        return ()
    gone = [name for name in before if name not in now and name in os.environ]
    changed = [name for name, value in now.items() if os.environ.get(name) != value]
    for name in gone:
        del os.environ[name]
    os.environ.update(now)
    return tuple(sorted({*gone, *changed}))


def reseed() -> None:
    """Seed Python's and numpy's generators again, and begin a new sequence of temporary file names."""
    random.seed()
    if numpy := sys.modules.get("numpy.random"):
        numpy.seed()
    setattr(tempfile, "_name_sequence", None)  # noqa: B010 — it goes by the process's id, which is the same
