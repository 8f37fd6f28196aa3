"""Which workflow files a `path` of the settings means. Looks at names only."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Sequence
from pathlib import Path

MOST_FILES = 100
"""At most this many workflow files of one entry are used."""


def locate(path: str, folders: Sequence[Path], most: int = MOST_FILES) -> tuple[tuple[str, Path], ...]:
    """(name to show, file) of each workflow that `path` means.

    A file, a directory of JSON files, or a pattern.

    Searched for in `folders`; the first that has any wins. A directory means the files in it, not those in
    folders below it (`**/*.json` means those too). Files whose name begins with a dot are left out: editors
    and macOS write them. Sorted by name, so that the order does not change from start to start. The name is
    relative to that folder: it holds no path of this machine.
    """
    for folder in folders:
        target = folder / path  # an absolute path replaces the folder
        if target.is_file():  # first: a name may hold brackets
            found: Iterable[Path] = [target]
        elif target.is_dir():
            found = target.glob("*.json")
        elif glob.has_magic(path):
            found = map(Path, glob.glob(_pattern(folder, path), recursive=True))  # noqa: PTH207 — Path.glob takes no absolute pattern
        else:
            found = ()
        files = sorted(file for file in found if file.is_file() and _is_meant(file, path))
        if files:
            return tuple((_shown(file, folder), file) for file in files[:most])
    return ()


def _pattern(folder: Path, path: str) -> str:
    """`path` as a pattern in `folder`, whatever characters the folder's own name has."""
    return path if Path(path).is_absolute() else str(Path(glob.escape(str(folder))) / path)


def _is_meant(file: Path, path: str) -> bool:
    return not file.name.startswith(".") or file.name == Path(path).name


def _shown(file: Path, folder: Path) -> str:
    return file.relative_to(folder).as_posix() if file.is_relative_to(folder) else file.name
