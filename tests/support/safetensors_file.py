"""Write safetensors files: a header, then random finite fp16 values. Standard library only, no torch."""

from __future__ import annotations

import json
import math
import random
import struct
from collections.abc import Container, Iterator, Mapping
from pathlib import Path

Shapes = dict[str, tuple[int, ...]]

FP16_BYTES = 2
_BLOCK = 1 << 24
# The high byte of an fp16 is sign (1), exponent (5), mantissa (2). Keeping sign and mantissa and forcing the
# exponent to 8..11 makes any random byte one of a number between 2**-7 and 2**-3: finite, small, never zero.
_SMALL = bytes((byte & 0x83) | ((8 + (byte >> 2 & 3)) << 2) for byte in range(256))


def write(
    path: Path, shapes: Mapping[str, tuple[int, ...]], *, seed: int = 0, zeros: Container[str] = ()
) -> Path:
    """Write fp16 tensors of these shapes; those in `zeros` become holes, which use no disk space.

    The file appears under its name when it is whole, as a replaced model file should.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    header, ends = _header(shapes)
    blocks = _blocks(seed)
    part = path.with_name(f"{path.name}.part")
    with part.open("wb") as file:
        file.write(header)
        for name, end in ends.items():
            if name in zeros:
                file.seek(len(header) + end)
                continue
            missing = len(header) + end - file.tell()
            while missing:
                missing -= file.write(next(blocks)[:missing])
        file.truncate()
    return part.replace(path)


def size(shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Return the size of the file that `write` creates."""
    header, ends = _header(shapes)
    return len(header) + max(ends.values())


def _header(shapes: Mapping[str, tuple[int, ...]]) -> tuple[bytes, dict[str, int]]:
    entries: dict[str, object] = {}
    ends: dict[str, int] = {}
    offset = 0
    for name, shape in shapes.items():
        ends[name] = offset + math.prod(shape) * FP16_BYTES
        entries[name] = {"dtype": "F16", "shape": shape, "data_offsets": [offset, ends[name]]}
        offset = ends[name]
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the format aligns tensors to 8 bytes
    return struct.pack("<Q", len(text)) + text, ends


def _blocks(seed: int) -> Iterator[memoryview]:
    """Return the same random block each time: a tensor uses its first bytes, which is fast."""
    source = random.Random(seed)  # noqa: S311 — test weights
    data = bytearray(source.randbytes(1 << 16))
    data[1::2] = data[1::2].translate(_SMALL)
    block = memoryview(bytes(data) * (_BLOCK // len(data)))
    while True:
        yield block
