"""What a model file is, read from its first bytes; the weights are not read.

The only reader of safetensors headers.

Format: https://huggingface.co/docs/safetensors: 8 bytes little-endian header length, a JSON object
{tensor: {dtype, shape, data_offsets: [begin, end]}}, then the data.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from comfy_preload.core.errors import PreloadError, Problem, problem
from comfy_preload.core.loader_table import GGUF, SAFETENSORS
from comfy_preload.core.planning import gguf

MAX_HEADER = 100_000_000
"""The safetensors library's own limit on the header, in bytes."""
BITS = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 64),
    **dict.fromkeys(("F32", "I32", "U32"), 32),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
    **dict.fromkeys(("BOOL", "I8", "U8", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    "F4": 4,
}
"""Bits of one number of each dtype. The size of a tensor of another dtype is not checked."""

_OTHERS = {
    b"<": ("starts like an HTML page", "A download answered with a web page; is a login needed?"),
    b"version https://git-lfs": ("is a Git LFS pointer", "Run 'git lfs pull' where it came from."),
    b"PK\x03\x04": ("is a zip or PyTorch pickle", "Rename it to .ckpt, or convert it."),
    b"\x80": ("is a Python pickle", "Rename it to .ckpt, or convert it."),
    b"GGUF": ("is a GGUF file", "Rename it to .gguf and use a GGUF loader."),
    b"{": ("starts with JSON, without a length before it", "Download the file again."),
}
_BAD_TABLE = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""What reading a header raises that is JSON, but not a table of tensors."""


@dataclass(frozen=True)
class RawHeader:
    """The header as it is in the file, parsed but not checked."""

    text: bytes
    table: Any
    """What the JSON holds; a mapping if the file is sound."""

    @property
    def data_start(self) -> int:
        """Where the data begins in the file."""
        return 8 + len(self.text)

    def offsets(self) -> list[tuple[int, int]]:
        """Return (begin, end) of each tensor, counted from `data_start`.

        Raises one of many errors if unsound.
        """
        rows = (row["data_offsets"] for name, row in self.table.items() if name != "__metadata__")
        return [(int(begin), int(end)) for begin, end in rows]


@dataclass(frozen=True)
class Tensor:
    """One tensor; `begin` and `end` count from the first byte after the header."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def bytes(self) -> int:
        return self.end - self.begin

    @property
    def numbers(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class Header:
    """A header whose tensors fill the file without gap or overlap."""

    tensors: tuple[Tensor, ...]
    """In the order of the header."""
    metadata: Mapping[str, str] | None
    start: int
    """Where the data begins in the file."""

    def dtypes(self) -> dict[str, int]:
        """Return the bytes of each dtype, most first."""
        found: dict[str, int] = {}
        for tensor in self.tensors:
            found[tensor.dtype] = found.get(tensor.dtype, 0) + tensor.bytes
        return dict(sorted(found.items(), key=lambda item: -item[1]))

    def shape(self, ending: str) -> tuple[int, ...] | None:
        """Return the shape of the first tensor whose name ends so, None if there is none."""
        return next((t.shape for t in self.tensors if t.name.endswith(ending)), None)


def inspect(path: Path, name: str) -> tuple[int, Problem | None]:
    """Return the size in bytes, and what is wrong.

    `file_unreadable`, `file_empty`, `file_not_safetensors`, `file_not_gguf`, `file_truncated`.

    `name` stands for the file in messages. Reads at most the header; blocks as the storage does.
    """
    size = 0
    try:
        size = _size(path, name)
        if name.lower().endswith(SAFETENSORS):
            _read(path, name, size)
        elif name.lower().endswith(GGUF):
            return size, _gguf_problem(path, name, size)
    except PreloadError as error:
        return size, error.problem
    return size, None


def _gguf_problem(path: Path, name: str, size: int) -> Problem | None:
    try:
        with path.open("rb") as stream:
            start = stream.read(64)
            if start.startswith(gguf.MAGIC):
                stream.seek(0)
                return gguf.header_problem(stream, name, size)
    except OSError as error:
        return _unreadable(name, error)
    found, suggestion = _other_kind(start) or ("does not start like one", "Download the file again.")
    return problem("file_not_gguf", file=name, found=found, suggestion=suggestion)


def _other_kind(start: bytes) -> tuple[str, str] | None:
    """Return what a file is that starts so, with a suggestion."""
    return next((row for magic, row in _OTHERS.items() if start.lstrip().startswith(magic)), None)


def read_header(path: Path, name: str) -> Header:
    """Read and check the whole header. Raises PreloadError with the codes of `inspect`."""
    raw = _read(path, name, _size(path, name))
    try:
        return _checked(raw)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise PreloadError(_broken(name, f"has a header that does not add up ({reason})")) from error


def read_raw(stream: BinaryIO, size: int, limit: int = MAX_HEADER) -> RawHeader | None:
    """Read the header of a file of `size` bytes.

    None if it is not a safetensors file, or if the header exceeds `limit` bytes.

    Raises OSError. The stream may stand anywhere.
    """
    stream.seek(0)
    length = int.from_bytes(stream.read(8), "little")
    if size < 8 or length > min(limit, size - 8):
        return None
    text = stream.read(length)
    try:
        return RawHeader(text, json.loads(text))
    except (RecursionError, ValueError):
        return None


def _size(path: Path, name: str) -> int:
    try:
        if not path.is_file():  # opening a named pipe would block
            raise PreloadError(problem("file_unreadable", file=name, reason="it is not a regular file"))
        size = path.stat().st_size
    except OSError as error:
        raise PreloadError(_unreadable(name, error)) from error
    if size == 0:
        raise PreloadError(problem("file_empty", file=name))
    return size


def _read(path: Path, name: str, size: int) -> RawHeader:
    """Read the header; it describes exactly as many bytes as the file has. Raises PreloadError."""
    try:
        with path.open("rb") as stream:
            raw = read_raw(stream, size)
            start = b"" if raw else _first_bytes(stream)
    except OSError as error:
        raise PreloadError(_unreadable(name, error)) from error
    if raw is None:
        raise PreloadError(_not_safetensors(start, name, size))
    try:
        described = raw.data_start + _data_length(raw)
    except _BAD_TABLE as error:
        raise PreloadError(_no_table(name)) from error
    if described != size:
        raise PreloadError(problem("file_truncated", file=name, found=f"{size:,}", expected=f"{described:,}"))
    return raw


def _first_bytes(stream: BinaryIO) -> bytes:
    stream.seek(0)
    return stream.read(64)


def _data_length(raw: RawHeader) -> int:
    offsets = raw.offsets()
    for begin, end in offsets:
        if not 0 <= begin <= end:
            raise ValueError("offsets run backwards")
    return max((end for _, end in offsets), default=0)


def _checked(raw: RawHeader) -> Header:
    table = dict(raw.table)
    metadata = table.pop("__metadata__", None)
    if metadata is not None and not isinstance(metadata, dict):
        raise TypeError("its __metadata__ is not a table")
    tensors = [
        Tensor(name, str(row["dtype"]), tuple(map(_whole, row["shape"])), *map(_whole, row["data_offsets"]))
        for name, row in table.items()
    ]
    position = 0
    for tensor in sorted(tensors, key=lambda t: (t.begin, t.end)):
        bits = BITS.get(tensor.dtype)
        if tensor.begin != position:
            raise ValueError(f"{tensor.name} begins at {tensor.begin}, not at {position}")
        if bits and tensor.numbers * bits != tensor.bytes * 8:
            raise ValueError(f"{tensor.name} has {tensor.bytes} bytes for {tensor.shape} of {tensor.dtype}")
        position = tensor.end
    return Header(tuple(tensors), metadata, raw.data_start)


def _whole(number: Any) -> int:
    if not isinstance(number, int) or number < 0:
        raise ValueError(f"{number!r} is not a count")
    return number


def _not_safetensors(start: bytes, name: str, size: int) -> Problem:
    length = int.from_bytes(start[:8], "little")
    if size >= 8 and length <= min(MAX_HEADER, size - 8):
        return _no_table(name)
    plausible = 0 < length <= MAX_HEADER
    # the first byte of a length may look like any of the others
    other = None if plausible and start[8:9] == b"{" else _other_kind(start)
    if other:
        return problem("file_not_safetensors", file=name, found=other[0], suggestion=other[1])
    if plausible:
        header = f"a header of {length:,} bytes alone"
        return problem("file_truncated", file=name, found=f"{size:,}", expected=header)
    return _broken(name, f"claims a header of {length:,} bytes")


def _no_table(name: str) -> Problem:
    return _broken(name, "has a header that is not a JSON table of tensors")


def _broken(name: str, found: str) -> Problem:
    return problem("file_not_safetensors", file=name, found=found, suggestion="Download the file again.")


def _unreadable(name: str, error: OSError) -> Problem:
    return problem("file_unreadable", file=name, reason=error.strerror or "unreadable")
