"""Files for the time of a warm-up.

A small picture where a workflow reads one that a user would upload, and none left behind.

Source: LoadImage in nodes.py, LoadAudio in comfy_extras/nodes_audio.py, `annotated_filepath` in
folder_paths.py.
"""

from __future__ import annotations

import copy
import struct
import uuid
import wave
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import folder_paths

from comfy_preload.core.host import Failed
from comfy_preload.core.log import log
from comfy_preload.core.planning.warm_up import Upload, uploads
from comfy_preload.host.node_classes import node_classes
from comfy_preload.host.node_types import ComfyNodeTypes

SIDE = 256
"""Pixels of a picture's sides: what most models can work on, and little work."""
SECONDS = 1
"""Of silence in a sound file."""
_RATE = 16_000
_PREFIX = "comfy_preload_"
_ENDINGS = {"image": ".png", "audio": ".wav"}


@contextmanager
def filled(prompt: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], Failed | None]]:
    """Yield the prompt with a stand-in for each uploaded file that is not there; they are removed afterwards.

    Beside it: the first such file that none can be made for.
    """
    missing = [one for one in uploads(dict(prompt), ComfyNodeTypes()) if not _is_there(one.file)]
    changed = {name: {**node, "inputs": copy.copy(node["inputs"])} for name, node in prompt.items()}
    made: list[Path] = []
    failed: Failed | None = None
    try:
        for one in missing:
            node_type = str(prompt[one.node]["class_type"])
            try:
                changed[one.node]["inputs"][one.input] = _make(one, node_type, made)
            except (OSError, KeyError) as error:
                log.warning("no stand-in for %s: %s", Path(one.file).name, type(error).__name__)
                failed = failed or Failed(one.node, node_type, one.kind, missing=Path(one.file).name)
        yield changed, failed
    finally:
        for path in made:
            with suppress(OSError):
                path.unlink()


def remove_shown(outputs: Any, since: float) -> None:
    """Delete the files that the nodes of a prompt named in their answers to the page, if they are that new.

    A warm-up has no page: these are previews, and pictures of nodes that save what they sample.
    """
    for shown in _dicts(outputs):
        name, folder = shown.get("filename"), shown.get("type")
        if not isinstance(name, str) or folder not in ("temp", "output"):
            continue
        base = Path(
            folder_paths.get_temp_directory() if folder == "temp" else folder_paths.get_output_directory()
        )
        path = (base / str(shown.get("subfolder") or "") / name).resolve()
        with suppress(OSError):
            if path.is_relative_to(base.resolve()) and path.stat().st_mtime >= since - 1:
                path.unlink()


def _dicts(value: Any) -> Iterator[Mapping[str, Any]]:
    todo = [value]
    while todo:
        one = todo.pop()
        if isinstance(one, Mapping):
            yield one
            todo += one.values()
        elif isinstance(one, list | tuple):
            todo += one


def _is_there(name: str) -> bool:
    with suppress(OSError, ValueError):
        return bool(name) and folder_paths.exists_annotated_filepath(name)
    return False


def _make(one: Upload, node_type: str, made: list[Path]) -> str:
    """Write the file and return its name as a widget would hold it.

    Raises OSError, and KeyError for other kinds.

    A node that checks the name itself takes one in ComfyUI's folder for temporary files; others only offer
    what lies in the input folder.
    """
    name = f"{_PREFIX}{uuid.uuid4().hex}{_ENDINGS[one.kind]}"
    anywhere = _checks_itself(node_type, one.input)
    folder = Path(folder_paths.get_temp_directory() if anywhere else folder_paths.get_input_directory())
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    made.append(path)
    if one.kind == "image":
        path.write_bytes(_png(SIDE, SIDE))
    else:
        _silence(path)
    return f"{name} [temp]" if anywhere else name


def _checks_itself(node_type: str, name: str) -> bool:
    """Does the class check this input itself? Then ComfyUI does not compare it with the list."""
    cls = node_classes()[node_type]
    check = getattr(cls, "VALIDATE_INPUTS", None) or getattr(cls, "validate_inputs", None)
    code = getattr(check, "__code__", None)
    return code is not None and name in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]


def _png(width: int, height: int) -> bytes:
    """A grey picture with a darker middle, as small as can be."""
    rows = b""
    for y in range(height):
        middle = height // 4 <= y < 3 * height // 4
        edge, inside = b"\xb0" * (width // 4), (b"\x50" if middle else b"\xb0") * (width - 2 * (width // 4))
        rows += b"\0" + edge + inside + edge

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def _silence(path: Path) -> None:
    with wave.open(str(path), "wb") as sound:
        sound.setnchannels(2)
        sound.setsampwidth(2)
        sound.setframerate(_RATE)
        sound.writeframes(bytes(4 * _RATE * SECONDS))
