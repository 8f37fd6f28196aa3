"""The table of tensors at the head of a safetensors file. Reads no weights.

Format: https://huggingface.co/docs/safetensors
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from comfy_preload.core.errors import PreloadError, problem
from comfy_preload.core.planning.safetensors import inspect

BITS = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 64),
    **dict.fromkeys(("F32", "I32", "U32"), 32),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
    **dict.fromkeys(("BOOL", "I8", "U8", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    "F4": 4,
}
"""Bits of one number. A type that is not listed is copied as it is."""


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
    tensors: tuple[Tensor, ...]
    """In the order of the header."""
    metadata: Mapping[str, str] | None
    start: int
    """Where the data begins in the file."""

    def dtypes(self) -> dict[str, int]:
        """Bytes of each dtype, most first."""
        found: dict[str, int] = {}
        for tensor in self.tensors:
            found[tensor.dtype] = found.get(tensor.dtype, 0) + tensor.bytes
        return dict(sorted(found.items(), key=lambda item: -item[1]))

    def shape(self, ending: str) -> tuple[int, ...] | None:
        """Of the first tensor whose name ends so."""
        return next((t.shape for t in self.tensors if t.name.endswith(ending)), None)


def read_header(path: Path, name: str) -> Header:
    """Raises PreloadError with the code that the preflight would give: file_unreadable, _empty, _not_safetensors, _truncated."""
    _, wrong = inspect(path, name)
    if wrong is not None:
        raise PreloadError(wrong)
    try:
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            return _header(json.loads(stream.read(length)), 8 + length)
    except OSError as error:
        raise PreloadError(
            problem("file_unreadable", file=name, reason=error.strerror or "unreadable")
        ) from error
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        found = f"has a header that does not add up ({without_newline(error)})"
        broken = problem("file_not_safetensors", file=name, found=found, suggestion="Fetch the file again.")
        raise PreloadError(broken) from error


def _header(raw: dict[str, Any], start: int) -> Header:
    metadata = raw.pop("__metadata__", None)
    if metadata is not None and not isinstance(metadata, dict):
        raise TypeError("its __metadata__ is no table")
    tensors = [
        Tensor(name, str(row["dtype"]), tuple(map(_whole, row["shape"])), *map(_whole, row["data_offsets"]))
        for name, row in raw.items()
    ]
    position = 0
    for tensor in sorted(tensors, key=lambda t: (t.begin, t.end)):
        bits = BITS.get(tensor.dtype)
        if tensor.begin != position:
            raise ValueError(f"{tensor.name} begins at {tensor.begin}, not at {position}")
        if bits and tensor.numbers * bits != tensor.bytes * 8:
            raise ValueError(f"{tensor.name} has {tensor.bytes} bytes for {tensor.shape} of {tensor.dtype}")
        position = tensor.end
    return Header(tuple(tensors), metadata, start)


def _whole(number: Any) -> int:
    if not isinstance(number, int) or number < 0:
        raise ValueError(f"{number!r} is no count")
    return number


def without_newline(error: BaseException) -> str:
    """The first line of what it says."""
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
