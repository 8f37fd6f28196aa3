"""What a GGUF file is, judged by its header.

The files are written by the `gguf` package, whose reader loaders use.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import gguf
import pytest
from gguf.constants import GGML_QUANT_SIZES
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from comfy_preload.core.planning.safetensors import inspect
from tests.support import gguf_file

NAME = "flux-Q4.gguf"


def look(path: Path, content: bytes) -> tuple[str, str, str]:
    """Return code, message and hint."""
    path.write_bytes(content)
    size, problem = inspect(path, NAME)
    assert size == len(content)
    return ("", "", "") if problem is None else (problem.code, problem.message, problem.hint)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, id="plain"),
        pytest.param({"tokens": 50_000}, id="tokenizer"),
        pytest.param({"alignment": 256}, id="alignment"),
        pytest.param({"big_endian": True}, id="big-endian"),
    ],
)
def test_whole_file(tmp_path: Path, options: dict[str, Any]) -> None:
    """A whole file has no problem, and the package that wrote it reads it too."""
    content = gguf_file.write(tmp_path / "whole.gguf", **options).read_bytes()

    assert "" == look(tmp_path / NAME, content)[0]
    assert 3 == len(gguf.GGUFReader(tmp_path / NAME).tensors)


@pytest.mark.parametrize("kept", [0.02, 0.1, 0.5, 0.9])
def test_cut_file(tmp_path: Path, kept: float) -> None:
    """A file that was cut anywhere is truncated, and both sizes are said."""
    content = gguf_file.write(tmp_path / "whole.gguf", tokens=100).read_bytes()
    cut = content[: max(8, int(len(content) * kept))]

    code, message, _ = look(tmp_path / NAME, cut)

    assert "file_truncated" == code
    assert f"{NAME} has {len(cut):,} bytes" in message


def test_last_byte_is_missing(tmp_path: Path) -> None:
    """The end of the last tensor counts, not that of the padding behind it."""
    content = gguf_file.write(tmp_path / "whole.gguf").read_bytes()
    reader = gguf.GGUFReader(tmp_path / "whole.gguf")
    end = max(t.data_offset + t.n_bytes for t in reader.tensors)

    assert "" == look(tmp_path / NAME, content[:end])[0]
    code, message, _ = look(tmp_path / NAME, content[: end - 1])
    assert ("file_truncated", True) == (code, f"describes {end:,}" in message)


@pytest.mark.parametrize(
    ("content", "found", "hint"),
    [
        pytest.param(b"<!DOCTYPE html><html>", "HTML page", "login", id="web-page"),
        pytest.param(
            b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer", "git lfs", id="git-lfs"
        ),
        pytest.param(b"PK\x03\x04" + bytes(60), "zip", "Rename", id="pickle"),
        pytest.param(bytes(200), "does not start like one", "Download", id="zeros"),
        pytest.param(
            b"GGUF" + struct.pack("<IQQ", 1, 1, 0), "version 1; expected 2 or 3", "Download", id="version-1"
        ),
        pytest.param(b"GGUF" + struct.pack("<IQQ", 99, 1, 0), "version 99", "Download", id="version-99"),
        pytest.param(b"GGUF" + struct.pack("<IQQ", 3, 0, 0), "holds no tensor", "Download", id="no-tensor"),
        pytest.param(
            b"GGUF" + struct.pack("<IQQQcI", 3, 1, 1, 1, b"k", 77),
            "unknown type 77",
            "Download",
            id="odd-value",
        ),
    ],
)
def test_is_something_else(tmp_path: Path, content: bytes, found: str, hint: str) -> None:
    """A file that only has the name is refused, with what it is instead."""
    code, message, advice = look(tmp_path / NAME, content)

    assert "file_not_gguf" == code
    assert found in message
    assert hint in advice


def test_sizes_of_all_types(tmp_path: Path) -> None:
    """Every type of tensor that the package knows ends where the package says."""
    for kind, (weights, size) in GGML_QUANT_SIZES.items():
        head = b"GGUF" + struct.pack("<IQQ", 3, 1, 0)
        head += struct.pack("<Qc I QQ I Q".replace(" ", ""), 1, b"t", 2, weights, 3, int(kind), 0)
        start = -(-len(head) // 32) * 32
        whole = head.ljust(start, b"\0") + bytes(3 * size)

        assert "" == look(tmp_path / NAME, whole)[0], kind
        assert "file_truncated" == look(tmp_path / NAME, whole[:-1])[0], kind


@given(noise=st.binary(max_size=300))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_bytes(tmp_path: Path, noise: bytes) -> None:
    """Whatever follows the magic, the answer is a problem or none, and never an exception."""
    assert look(tmp_path / NAME, b"GGUF" + noise)[0] in ("", "file_truncated", "file_not_gguf")
