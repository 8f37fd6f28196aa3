"""What a model file is, judged by its first bytes."""

from __future__ import annotations

import json
import os
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from comfy_preload.core.planning.safetensors import MAX_HEADER, inspect
from tests.support import safetensors_file

NAME = "m.safetensors"


def with_header(header: Any, data: int = 0) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(data)


def tensor(begin: object, end: object) -> dict[str, Any]:
    return {"dtype": "U8", "shape": [1], "data_offsets": [begin, end]}


def look(path: Path, content: bytes, name: str = NAME) -> tuple[str, str, str]:
    """(code, message, hint)."""
    path.write_bytes(content)
    size, problem = inspect(path, name)
    assert size == len(content)
    return ("", "", "") if problem is None else (problem.code, problem.message, problem.hint)


def test_written_file(tmp_path: Path) -> None:
    """A whole safetensors file has its size and no problem."""
    path = safetensors_file.write(tmp_path / NAME, {"a": (2, 3), "b": (5,)})

    assert (path.stat().st_size, None) == inspect(path, NAME)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(with_header({"a": tensor(0, 4), "b": tensor(4, 9)}, 9), id="two"),
        pytest.param(with_header({"__metadata__": {"format": "pt"}, "a": tensor(0, 4)}, 4), id="metadata"),
        pytest.param(with_header({}), id="no-tensor"),
        pytest.param(
            with_header(b'{"a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}   ', 1), id="padded"
        ),
    ],
)
def test_good(tmp_path: Path, content: bytes) -> None:
    """A header that describes exactly the bytes that follow is in order."""
    assert "" == look(tmp_path / NAME, content)[0]


@pytest.mark.parametrize(
    ("content", "code", "message", "hint"),
    [
        pytest.param(b"", "file_empty", "m.safetensors is empty", "download the file again", id="empty"),
        pytest.param(b"<!DOCTYPE html><p>Sign in", "file_not_safetensors", "HTML page", "login", id="html"),
        pytest.param(
            b"\n  <html>" + bytes(99), "file_not_safetensors", "HTML page", "login", id="html-after-blanks"
        ),
        pytest.param(b"\xfe" * 100, "file_not_safetensors", "claims a header of", "again", id="garbage"),
        pytest.param(bytes(100), "file_not_safetensors", "JSON table", "again", id="zeros"),
        pytest.param(
            b"version https://git-lfs.github.com/spec/v1\noid x",
            "file_not_safetensors",
            "LFS",
            "git lfs pull",
            id="lfs",
        ),
        pytest.param(
            b"PK\x03\x04\x00\x00\x08\x08" + bytes(99), "file_not_safetensors", "zip", ".ckpt", id="zip"
        ),
        pytest.param(
            b"\x80\x04\x95\xff\xff\xff\xff\xff." + bytes(99),
            "file_not_safetensors",
            "pickle",
            ".ckpt",
            id="pickle",
        ),
        pytest.param(b"\x80\x02}q\x00.", "file_not_safetensors", "pickle", ".ckpt", id="short-pickle"),
        pytest.param(
            b"GGUF\x03\x00\x00\x00\x01" + bytes(99), "file_not_safetensors", "GGUF", ".gguf", id="gguf"
        ),
        pytest.param(
            b'{"a": 1, "b": 22222}',
            "file_not_safetensors",
            "without a length",
            "again",
            id="json-without-length",
        ),
        pytest.param(
            struct.pack("<Q", 1 << 60) + b"{}",
            "file_not_safetensors",
            f"{1 << 60:,} bytes",
            "again",
            id="2**60",
        ),
        pytest.param(
            struct.pack("<Q", 2**64 - 1) + b"{}", "file_not_safetensors", "claims", "again", id="2**64-1"
        ),
        pytest.param(
            struct.pack("<Q", MAX_HEADER + 1) + b"{",
            "file_not_safetensors",
            "claims",
            "again",
            id="above-limit",
        ),
        pytest.param(b"abc", "file_truncated", "3 bytes", "again", id="three-bytes"),
        pytest.param(
            struct.pack("<Q", 500) + b'{"a"',
            "file_truncated",
            "a header of 500 bytes alone",
            "again",
            id="cut-in-header",
        ),
        pytest.param(
            struct.pack("<Q", 0x80) + b'{"a"',
            "file_truncated",
            "128 bytes alone",
            "again",
            id="cut-looks-like-pickle",
        ),
        pytest.param(
            struct.pack("<Q", 0x3C) + b'{"a"',
            "file_truncated",
            "60 bytes alone",
            "again",
            id="cut-looks-like-html",
        ),
        pytest.param(
            with_header({"a": tensor(0, 4)}, 3),
            "file_truncated",
            "header describes",
            "again",
            id="one-byte-short",
        ),
        pytest.param(
            with_header({"a": tensor(0, 4)}, 5),
            "file_truncated",
            "header describes",
            "again",
            id="one-byte-long",
        ),
        pytest.param(with_header([1, 2]), "file_not_safetensors", "JSON table", "again", id="list"),
        pytest.param(with_header(7), "file_not_safetensors", "JSON table", "again", id="number"),
        pytest.param(with_header(b"not json"), "file_not_safetensors", "JSON table", "again", id="no-json"),
        pytest.param(with_header(b"\xff\xff"), "file_not_safetensors", "JSON table", "again", id="no-text"),
        pytest.param(with_header(b"[" * 100_000), "file_not_safetensors", "JSON table", "again", id="nested"),
        pytest.param(
            with_header({"a": None}), "file_not_safetensors", "JSON table", "again", id="null-tensor"
        ),
        pytest.param(
            with_header({"a": {"dtype": "U8"}}),
            "file_not_safetensors",
            "JSON table",
            "again",
            id="no-offsets",
        ),
        pytest.param(
            with_header({"a": {"data_offsets": []}}),
            "file_not_safetensors",
            "JSON table",
            "again",
            id="empty-offsets",
        ),
        pytest.param(
            with_header({"a": tensor(0, "x")}),
            "file_not_safetensors",
            "JSON table",
            "again",
            id="text-offset",
        ),
        pytest.param(
            with_header({"a": tensor(-8, -4)}), "file_not_safetensors", "JSON table", "again", id="negative"
        ),
        pytest.param(
            with_header({"a": tensor(-8, -4), "b": tensor(0, 4)}, 4),
            "file_not_safetensors",
            "JSON",
            "again",
            id="one-negative",
        ),
        pytest.param(
            with_header({"a": tensor(4, 0)}), "file_not_safetensors", "JSON table", "again", id="backwards"
        ),
        pytest.param(
            with_header(b'{"a": {"data_offsets": [0, 1e999]}}'),
            "file_not_safetensors",
            "JSON",
            "again",
            id="infinite",
        ),
        pytest.param(
            with_header(b'{"a": {"data_offsets": [0, NaN]}}'),
            "file_not_safetensors",
            "JSON",
            "again",
            id="nan",
        ),
    ],
)
def test_bad(tmp_path: Path, content: bytes, code: str, message: str, hint: str) -> None:
    """What is wrong is reported with what was found and what to do."""
    found = look(tmp_path / NAME, content)

    assert code == found[0]
    assert message in found[1]
    assert hint in found[2]
    assert str(tmp_path) not in "".join(found)


@pytest.mark.parametrize("name", ["m.ckpt", "m.pt", "m.bin", "m"])
def test_other_formats(tmp_path: Path, name: str) -> None:
    """A file that does not claim to be safetensors is not looked into."""
    assert "" == look(tmp_path / "file", b"<html>", name)[0]


@pytest.mark.parametrize("name", ["M.SAFETENSORS", "m.sft"])
def test_claims_safetensors(tmp_path: Path, name: str) -> None:
    """Letter case does not matter, and .sft is the short form."""
    assert "file_not_safetensors" == look(tmp_path / "file", b"<html>    ", name)[0]


def test_missing(tmp_path: Path) -> None:
    """A file that went away since the plan was made is unreadable, without its path."""
    size, problem = inspect(tmp_path / "gone.safetensors", NAME)

    assert (0, "file_unreadable") == (size, problem and problem.code)
    assert str(tmp_path) not in str(problem)


def test_directory(tmp_path: Path) -> None:
    """A directory is not a model file."""
    size, problem = inspect(tmp_path, NAME)

    assert (0, "file_unreadable") == (size, problem and problem.code)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no FIFO in the file system")
def test_fifo(tmp_path: Path) -> None:
    """A pipe is refused, not opened: opening one waits for a writer for ever."""
    os.mkfifo(tmp_path / NAME)
    size, problem = inspect(tmp_path / NAME, NAME)

    assert (0, "file_unreadable") == (size, problem and problem.code)


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[Path]:
    """A file without read permission."""
    if sys.platform == "win32" or os.geteuid() == 0:
        pytest.skip("root, and Windows, read files whatever their mode says")
    path = tmp_path / NAME
    path.write_bytes(with_header({}))
    path.chmod(0)
    yield path
    path.chmod(0o600)


def test_permission_denied(locked: Path) -> None:
    """A file that may not be read is unreadable, with the system's reason."""
    problem = inspect(locked, NAME)[1]

    assert "m.safetensors cannot be read: Permission denied" == (problem and problem.message)


def test_dangling_link(tmp_path: Path) -> None:
    """A link to nothing is unreadable."""
    (tmp_path / NAME).symlink_to(tmp_path / "nothing")
    problem = inspect(tmp_path / NAME, NAME)[1]

    assert "file_unreadable" == (problem and problem.code)


def test_sparse(tmp_path: Path) -> None:
    """A terabyte is judged by its header: the weights are not read."""
    size = 1 << 40
    head = with_header({"a": tensor(0, size)})
    with (tmp_path / NAME).open("wb") as file:
        file.write(head)
        file.truncate(len(head) + size)

    assert (len(head) + size, None) == inspect(tmp_path / NAME, NAME)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda c: st.lists(c) | st.dictionaries(st.text(), c),
)
_headers = st.dictionaries(st.text(), st.fixed_dictionaries({"data_offsets": _json}) | _json) | _json


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary() | _headers.map(with_header))
def test_any_bytes(tmp_path: Path, content: bytes) -> None:
    """Whatever a file holds, it is judged and nothing is raised."""
    path = tmp_path / NAME
    path.write_bytes(content)
    size, problem = inspect(path, NAME)

    assert len(content) == size
    assert problem is None or problem.code in {"file_empty", "file_not_safetensors", "file_truncated"}
