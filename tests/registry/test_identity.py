"""The identity of a model's content: equal for copies, different for whatever else."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from comfy_preload.registry.identity import Contents, content
from tests.registry.replicas import until
from tests.support import models as tiny


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.safetensors"
    tiny.tiny_vae(path)
    return path


def slot(name: str, path: Path) -> Any:
    """As much of a slot as is looked at."""
    s = path.stat()
    call = SimpleNamespace(name=name, files=(SimpleNamespace(path=path),))
    return SimpleNamespace(call=call, loaded=SimpleNamespace(stamp=((s.st_mtime_ns, s.st_size, s.st_ino),)))


def test_copy(file: Path, tmp_path: Path) -> None:
    """Another name, date and inode make no difference."""
    copy = Path(shutil.copyfile(file, tmp_path / "b.safetensors"))
    os.utime(copy, (1, 1))

    assert content([file]) == content([copy])
    assert content([file]).startswith("c1-")


def test_one_tensor(file: Path) -> None:
    """Other numbers in a single tensor make another model."""
    before = content([file])
    data = bytearray(file.read_bytes())
    data[-4096:] = bytes(byte ^ 0xFF for byte in data[-4096:])
    file.write_bytes(data)

    assert before != content([file])


@pytest.mark.parametrize(
    "data", [b"", b"x", b"\x05\0\0\0\0\0\0\0{}", b"GGUF" + bytes(3_000_000), b"\xff" * 100]
)
def test_any_file(data: bytes, tmp_path: Path) -> None:
    """Files of other formats, and broken ones, have an identity too."""
    path = tmp_path / "x.gguf"
    path.write_bytes(data)

    assert content([path]) != content([path, path])


def test_in_the_background(file: Path) -> None:
    """Not known at once, then known."""
    contents = Contents()

    assert {"m": None} == contents.of([slot("m", file)])
    until(lambda: contents.of([slot("m", file)]) == {"m": content([file])}, "known")


def test_replaced_file(file: Path) -> None:
    """A file that has taken the place of the one that was loaded does not lend it its identity."""
    loaded = slot("m", file)
    contents = Contents()
    tiny.tiny_vae(file.with_name("new"), seed=5)
    file.with_name("new").replace(file)
    other = file.with_name("other.safetensors")
    tiny.tiny_vae(other)
    contents.of([loaded, slot("other", other)])
    until(lambda: contents.of([loaded, slot("other", other)])["other"], "known")

    assert contents.of([loaded, slot("other", other)])["m"] is None
