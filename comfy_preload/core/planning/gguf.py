"""What is wrong with a GGUF file, from its header; the weights are not read.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md: the magic `GGUF`, a version, the counts of
tensors and of key-value pairs, the pairs, then a name, a shape, a type and an offset for each tensor, then
the data.
"""

from __future__ import annotations

import struct
from typing import BinaryIO

from comfy_preload.core.errors import Problem, problem

MAGIC = b"GGUF"
VERSIONS = (2, 3)
"""What the `gguf` package of ComfyUI-GGUF reads (`READER_SUPPORTED_VERSIONS`)."""
MAX_HEADER = 256 << 20
"""Bytes. The tokenizers of text encoders take some 10 MB."""

_STRING, _ARRAY = 8, 9
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Bytes of a value of a fixed size, by its type in the file."""
_BLOCKS = {
    0: (1, 4),
    1: (1, 2),
    2: (32, 18),
    3: (32, 20),
    6: (32, 22),
    7: (32, 24),
    8: (32, 34),
    9: (32, 40),
    10: (256, 84),
    11: (256, 110),
    12: (256, 144),
    13: (256, 176),
    14: (256, 210),
    15: (256, 292),
    16: (256, 66),
    17: (256, 74),
    18: (256, 98),
    19: (256, 50),
    20: (32, 18),
    21: (256, 110),
    22: (256, 82),
    23: (256, 136),
    24: (1, 1),
    25: (1, 2),
    26: (1, 4),
    27: (1, 8),
    28: (1, 8),
    29: (256, 56),
    30: (1, 2),
    34: (256, 54),
    35: (256, 66),
    39: (32, 17),
    40: (64, 36),
    41: (128, 18),
}
"""(weights, bytes) of one block, by the type of a tensor (`GGML_QUANT_SIZES` of the gguf package, 0.19)."""


def header_problem(stream: BinaryIO, name: str, size: int) -> Problem | None:
    """Return what is wrong with an open file of `size` bytes: file_not_gguf, file_truncated."""
    start = stream.read(4)
    if start != MAGIC:
        return _broken(name, f"starts with {start!r}")
    try:
        return _Header(stream, size).problem(name)
    except EOFError:
        return problem("file_truncated", file=name, found=f"{size:,}", expected="a longer header")
    except (ValueError, OverflowError) as error:
        return _broken(name, str(error))


class _Header:
    """Reads the header of a file of `size` bytes. Raises EOFError where it goes on behind the end."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._stream = stream
        self._size = size
        self._at = len(MAGIC)
        self._order = "<"

    def problem(self, name: str) -> Problem | None:
        version = self._number("I")
        if version & 0xFFFF == 0:  # written on a big-endian machine
            self._order = ">"
            version = int.from_bytes(version.to_bytes(4, "little"), "big")
        if version not in VERSIONS:
            return _broken(name, f"has the version {version}; expected {' or '.join(map(str, VERSIONS))}")
        tensors, pairs = self._number("Q"), self._number("Q")
        if not tensors:
            return _broken(name, "holds no tensor")
        alignment = 32
        for _ in range(pairs):
            key = self._bytes()
            kind = self._number("I")
            if key == b"general.alignment" and kind == 4:
                alignment = self._number("I") or alignment
            else:
                self._skip(kind)
        end = max(self._tensor() for _ in range(tensors))
        data = -(-self._at // alignment) * alignment
        if data + end > self._size:
            return problem("file_truncated", file=name, found=f"{self._size:,}", expected=f"{data + end:,}")
        return None

    def _tensor(self) -> int:
        """Return where its data ends, counted from where all data begins.

        If its type is not known: where it begins.
        """
        self._bytes()
        shape = [self._number("Q") for _ in range(self._number("I"))]
        kind, offset = self._number("I"), self._number("Q")
        weights, size = _BLOCKS.get(kind, (1, 0))
        count = 1
        for length in shape:
            count *= length
        return offset + -(-count // weights) * size

    def _skip(self, kind: int) -> None:
        if kind == _STRING:
            self._bytes()
        elif kind == _ARRAY:
            inner, count = self._number("I"), self._number("Q")
            if inner in _SIZES:
                self._take(_SIZES[inner] * count)
            else:
                for _ in range(count):
                    self._skip(inner)
        elif kind in _SIZES:
            self._take(_SIZES[kind])
        else:
            raise ValueError(f"has a value of the unknown type {kind}")

    def _number(self, form: str) -> int:
        size = struct.calcsize(f"{self._order}{form}")
        return int(struct.unpack(f"{self._order}{form}", self._take(size))[0])

    def _bytes(self) -> bytes:
        return self._take(self._number("Q"))

    def _take(self, count: int) -> bytes:
        self._at += count
        if self._at > self._size:
            raise EOFError
        if self._at > MAX_HEADER:
            raise ValueError("has a header that is not a table of tensors")
        return self._stream.read(count)


def _broken(name: str, found: str) -> Problem:
    return problem("file_not_gguf", file=name, found=found, suggestion="Download the file again.")
