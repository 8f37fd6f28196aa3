"""The workflow that ComfyUI writes into the images it saves. Reads metadata only: no pixel, no image library.

PNG: text chunks named `prompt` and `workflow` (SaveImage, nodes.py), and in animated ones `comf` chunks
(SaveAnimatedPNG, comfy_extras/nodes_images.py). WebP: EXIF texts that begin with the same names
(SaveAnimatedWEBP, same file).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from typing import BinaryIO

from comfy_preload.core.errors import PreloadError, problem

PNG, RIFF, WEBP = b"\x89PNG\r\n\x1a\n", b"RIFF", b"WEBP"
NAMES = ("prompt", "workflow")
"""What ComfyUI ran, before what the editor had open.

The first of the two needs no node classes to be read.
"""
MAX_BYTES = 20 << 20
"""Of one workflow file, and of one text in an image."""
MAX_CHUNKS = 100_000
_EXIF = b"Exif\x00\x00"
_ASCII = 2
"""The type of EXIF values that hold text."""


def text_of(stream: BinaryIO) -> bytes:
    """Return the text of a workflow: all of a JSON file, or what an image has in it.

    Raises PreloadError and OSError.
    """
    head = stream.read(12)
    if head.startswith(PNG):
        stream.seek(len(PNG))
        found = dict(_png(stream))
    elif head[:4] == RIFF and head[8:] == WEBP:
        found = dict(_webp(stream))
    else:
        return head + stream.read(MAX_BYTES + 1 - len(head))
    for name in NAMES:
        if found.get(name, b"").lstrip().startswith(b"{"):
            return found[name]
    raise PreloadError(problem("workflow_unknown_format", found="an image without a workflow in it"))


def _png(stream: BinaryIO) -> Iterator[tuple[str, bytes]]:
    """Every text of a PNG file: (name, text)."""
    for _ in range(MAX_CHUNKS):
        head = stream.read(8)
        if len(head) < 8:
            return
        size, kind = struct.unpack(">I4s", head)
        if kind in (b"tEXt", b"zTXt", b"iTXt", b"comf") and size <= MAX_BYTES:
            name, _, rest = stream.read(size).partition(b"\0")
            yield name.decode("latin-1"), _text(kind, rest)
            size = 0
        stream.seek(size + 4, 1)  # the chunk, and its checksum


def _text(kind: bytes, data: bytes) -> bytes:
    """The text of a chunk as UTF-8."""
    if kind == b"zTXt":
        data = _inflated(data[1:])
    elif kind == b"iTXt":
        text = data[2:].split(b"\0", 2)[-1]  # behind a language and a translated name
        return _inflated(text) if data[:1] == b"\1" else text
    return data.decode("latin-1").encode()


def _inflated(data: bytes) -> bytes:
    with suppress(zlib.error):
        return zlib.decompressobj().decompress(data, MAX_BYTES + 1)
    return b""


def _webp(stream: BinaryIO) -> Iterator[tuple[str, bytes]]:
    """Every EXIF text of a WebP file that begins with a name and a colon: (name, the rest)."""
    for _ in range(MAX_CHUNKS):
        head = stream.read(8)
        if len(head) < 8:
            return
        kind, size = struct.unpack("<4sI", head)
        padding = size & 1
        if kind == b"EXIF" and size <= MAX_BYTES:
            for text in _exif(stream.read(size).removeprefix(_EXIF)):
                name, _, rest = text.partition(b":")
                yield name.decode("latin-1").strip().lower(), rest
            size = 0
        stream.seek(size + padding, 1)


def _exif(data: bytes) -> Iterator[bytes]:
    """The texts in the first directory of EXIF data (TIFF 6.0, section 2)."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None or len(data) < 8:
        return
    at = struct.unpack_from(f"{order}I", data, 4)[0]
    if at + 2 > len(data):
        return
    count = struct.unpack_from(f"{order}H", data, at)[0]
    for entry in range(at + 2, min(at + 2 + 12 * count, len(data) - 11), 12):
        _, kind, size, offset = struct.unpack_from(f"{order}HHII", data, entry)
        if kind == _ASCII:
            start = offset if size > 4 else entry + 8
            yield data[start : start + size].rstrip(b"\0")
