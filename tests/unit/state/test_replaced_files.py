"""A file that was replaced is loaded again; one that is gone, or moved by a restore, was not replaced."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from comfy_preload.core.state.slot import file_stamp
from tests.support.stand import MODEL, Stand


def _overwrite(path: Path) -> None:
    path.write_bytes(b"other weights")


def _replace(path: Path) -> None:
    new = path.with_suffix(".part")
    new.write_bytes(b"WEIGHTS")
    os.utime(new, ns=(path.stat().st_mtime_ns, path.stat().st_mtime_ns))
    new.replace(path)


def _touch(path: Path) -> None:
    os.utime(path, ns=(0, 0))


@pytest.mark.parametrize(
    "change", [_overwrite, _replace, _touch], ids=["longer", "other-inode", "other-time"]
)
def test_replaced_file(stand: Stand, path: Path, change: Callable[[Path], None]) -> None:
    """A file that was replaced is loaded again on its next use, and the new model is kept."""
    stand.load()
    change(path)
    stand.load(("new",))

    assert ("new",) == stand.recall()
    assert {"CheckpointLoaderSimple": 1} == dict(stand.residency.misses)


def test_removed_file(stand: Stand, path: Path) -> None:
    """A file that is gone was not replaced: the model in memory is still what was asked for."""
    stand.load()
    path.unlink()

    assert MODEL is stand.recall()


def test_file_replaced_while_loading(stand: Stand, path: Path) -> None:
    """What was read may be the old file: the next use loads again."""
    assert stand.recall() is None
    _overwrite(path)
    stand.residency.keep(stand.target.spec, stand.target.inputs, "", MODEL)

    assert stand.recall() is None


def test_restored_elsewhere(stand: Stand, path: Path) -> None:
    """After a restore the same file may have another inode: it is found, and a replaced one is not."""
    stand.load()
    before = path.stat()
    other = path.with_name("other")
    other.write_bytes(path.read_bytes())
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(path)
    assert before.st_ino != path.stat().st_ino

    stand.residency.stamp_again()
    assert MODEL is stand.recall()
    assert stand.slot.loaded
    assert stand.slot.loaded.stamp == file_stamp([path])

    path.write_bytes(path.read_bytes() + b"more")
    stand.residency.stamp_again()
    assert stand.recall() is None


def test_restored_without_the_file(stand: Stand, path: Path) -> None:
    """A missing file was not replaced."""
    stand.load()
    path.unlink()
    stand.residency.stamp_again()

    assert MODEL is stand.recall()


def test_file_stamp(path: Path) -> None:
    """A file is identified by time, size and inode; a missing one by nothing, no files by an empty tuple."""
    stat = path.stat()

    assert ((stat.st_mtime_ns, stat.st_size, stat.st_ino),) == file_stamp([path])
    assert () == file_stamp([])
    path.unlink()
    assert file_stamp([path]) is None
