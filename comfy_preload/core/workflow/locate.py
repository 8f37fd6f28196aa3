"""Which workflow files a `path` of the settings means. Looks at names only."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path

MOST_FILES = 100
"""So many workflow files of one entry are used."""


def locate(path: str, folders: Sequence[Path]) -> tuple[tuple[str, Path], ...]:
    """(name to show, file) of each workflow that `path` means: a file, a directory of them, or a pattern.

    Searched for in `folders`; the first that has any wins. Sorted by name, so that the order does not change
    from start to start. The name is relative to that folder: it holds no path of this machine.
    """
    for folder in folders:
        target = folder / path  # an absolute path replaces the folder
        if target.is_dir():
            found = sorted(target.glob("*.json"))
        elif glob.has_magic(path):
            names = glob.glob(str(target), recursive=True)  # noqa: PTH207 — Path.glob takes no absolute pattern
            found = sorted(Path(name) for name in names if Path(name).is_file())
        else:
            found = [target] if target.is_file() else []
        if found:
            return tuple((_shown(file, folder), file) for file in found[:MOST_FILES])
    return ()


def _shown(file: Path, folder: Path) -> str:
    return file.relative_to(folder).as_posix() if file.is_relative_to(folder) else file.name
