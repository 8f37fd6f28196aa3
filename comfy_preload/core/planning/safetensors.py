"""What a model file is, told from its first bytes; the weights are not read.

Format: https://huggingface.co/docs/safetensors: 8 bytes little-endian header length, a JSON object
{tensor: {dtype, shape, data_offsets: [begin, end]}}, then the data.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from comfy_preload.core.errors import Problem, problem
from comfy_preload.core.planning import gguf

MAX_HEADER = 100_000_000
"""The safetensors library's own limit on the header, in bytes."""
SAFETENSORS = (".safetensors", ".sft")

_OTHERS = {
    b"<": ("starts like an HTML page", "A download answered with a web page; is a login needed?"),
    b"version https://git-lfs": ("is a Git LFS pointer", "Run 'git lfs pull' where it came from."),
    b"PK\x03\x04": ("is a zip or PyTorch pickle", "Rename it to .ckpt, or convert it."),
    b"\x80": ("is a Python pickle", "Rename it to .ckpt, or convert it."),
    b"GGUF": ("is a GGUF file", "Rename it to .gguf and use a GGUF loader."),
    b"{": ("starts with JSON, without a length before it", "Fetch the file again."),
}


def inspect(path: Path, name: str) -> tuple[int, Problem | None]:
    """Size in bytes, and what is wrong: file_unreadable, _empty, _not_safetensors, _not_gguf, _truncated.

    `name` stands for the file in messages. Reads at most the header; blocks as the storage does.
    """
    try:
        if not path.is_file():
            return 0, problem("file_unreadable", file=name, reason="it is not a regular file")
        size = path.stat().st_size
        if size == 0:
            return 0, problem("file_empty", file=name)
        look = _look_for(name.lower())
        if look is None:
            return size, None
        with path.open("rb") as stream:
            return size, look(stream, name, size)
    except OSError as error:
        return 0, problem("file_unreadable", file=name, reason=error.strerror or "unreadable")


def _look_for(name: str) -> Callable[[BinaryIO, str, int], Problem | None] | None:
    if name.endswith(SAFETENSORS):
        return _header_problem
    return _gguf_problem if name.endswith(gguf.SUFFIX) else None


def _gguf_problem(stream: BinaryIO, name: str, size: int) -> Problem | None:
    start = stream.read(64)
    if not start.startswith(gguf.MAGIC):
        found, suggestion = next(
            (row for magic, row in _OTHERS.items() if start.lstrip().startswith(magic)),
            ("does not start like one", "Fetch the file again."),
        )
        return problem("file_not_gguf", file=name, found=found, suggestion=suggestion)
    stream.seek(0)
    return gguf.header_problem(stream, name, size)


def _header_problem(stream: BinaryIO, name: str, size: int) -> Problem | None:
    start = stream.read(64)
    length = int.from_bytes(start[:8], "little")
    if size < 8 or length > min(MAX_HEADER, size - 8):
        return _not_safetensors(start, name, length, size)
    stream.seek(8)
    try:
        wanted = 8 + length + _data_length(json.loads(stream.read(length)))
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError):
        return _broken(name, "has a header that is not a JSON table of tensors")
    if wanted != size:
        return problem("file_truncated", file=name, found=f"{size:,}", wanted=f"{wanted:,}")
    return None


def _data_length(header: Any) -> int:
    offsets = [value["data_offsets"] for key, value in header.items() if key != "__metadata__"]
    for begin, end in offsets:
        if not 0 <= begin <= end:
            raise ValueError("offsets run backwards")
    return max((int(end) for _, end in offsets), default=0)


def _not_safetensors(start: bytes, name: str, length: int, size: int) -> Problem:
    plausible = 0 < length <= MAX_HEADER
    if not (plausible and start[8:9] == b"{"):  # the length's first byte may look like any of them
        for magic, (found, suggestion) in _OTHERS.items():
            if start.lstrip().startswith(magic):
                return problem("file_not_safetensors", file=name, found=found, suggestion=suggestion)
    if plausible:
        wanted = f"a header of {length:,} bytes alone"
        return problem("file_truncated", file=name, found=f"{size:,}", wanted=wanted)
    return _broken(name, f"claims a header of {length:,} bytes")


def _broken(name: str, found: str) -> Problem:
    return problem("file_not_safetensors", file=name, found=found, suggestion="Fetch the file again.")
