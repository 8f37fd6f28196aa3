"""The record of what a start of ComfyUI reads from the disk, in the order of use: its file, and when it fits.

One line of JSON that says for which Python, torch and ComfyUI the record was made, then one line for each
file: `path<TAB>first-last,first-last` in bytes, `last` excluded.
"""

from __future__ import annotations

import json
import os
import stat
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

FORMAT = 1
MAX_BYTES = 16 << 20
"""Of the record: a start reads some ten thousand files at most."""

Ranges = tuple[tuple[int, int], ...]
"""(first byte, byte behind the last) of each part that was read."""


class RecordError(Exception):
    """The record cannot be used; the message is the reason."""


@dataclass(frozen=True)
class StartupRecord:
    """`files` maps each path to the parts of it that were read, in the order of use."""

    made_for: Mapping[str, str]
    """See `versions`."""
    files: Mapping[str, Ranges]

    @property
    def bytes(self) -> int:
        return sum(last - first for parts in self.files.values() for first, last in parts)


def versions(comfyui: Path) -> dict[str, str]:
    """Return what a record depends on, read from files: nothing is imported.

    Args:
        comfyui: ComfyUI's folder, with `comfyui_version.py` (since 0.3.11).
    """
    return {
        "python": f"{sys.version.split()[0]} {sys.executable}",
        "torch": _version_in(torch_folder() / "version.py"),
        "comfyui": _version_in(comfyui / "comfyui_version.py"),
    }


def read(path: Path) -> StartupRecord:
    """Raises RecordError if it is absent, somebody else's, too large or not a record.

    Never blocks on a FIFO.
    """
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except OSError as error:
        raise RecordError(error.strerror or "it cannot be read") from error
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise RecordError("it is not a regular file")
        if hasattr(os, "geteuid") and status.st_uid not in (0, os.geteuid()):
            raise RecordError("it belongs to another user")
        if status.st_size > MAX_BYTES:
            raise RecordError(f"it has {status.st_size:,} bytes, at most {MAX_BYTES:,} are read")
        return parse(os.read(handle, MAX_BYTES))
    finally:
        os.close(handle)


def parse(content: bytes) -> StartupRecord:
    """Raises RecordError."""
    try:
        head, *lines = content.decode(errors="surrogateescape").split("\n")
        about = json.loads(head)
        if about["format"] != FORMAT:
            raise RecordError(f"it has format {about['format']}, expected {FORMAT}")
        made_for = {str(key): str(value) for key, value in about["made_for"].items()}
        return StartupRecord(made_for, dict(_file(line) for line in lines if line))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise RecordError("it is not a record") from error


def text(record: StartupRecord) -> str:
    """Return the content of its file. Files whose names hold a tab or a line break are left out."""
    lines = [json.dumps({"format": FORMAT, "made_for": dict(record.made_for)})]
    lines += (
        f"{name}\t{','.join(f'{first}-{last}' for first, last in parts)}"
        for name, parts in record.files.items()
        if not set("\t\r\n") & set(name)
    )
    return "\n".join(lines) + "\n"


def write(path: Path, content: str) -> None:
    """Write a record's text, all or nothing. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content.encode(errors="surrogateescape"))
        Path(beside).chmod(0o644)
        Path(beside).replace(path)
    except BaseException:
        Path(beside).unlink(missing_ok=True)
        raise


def merged(parts: Iterable[tuple[int, int]], gap: int) -> Ranges:
    """Sort parts and join those that lie less than `gap` bytes apart.

    One longer read beats two short ones.
    """
    found: list[tuple[int, int]] = []
    for first, last in sorted(parts):
        if found and first - found[-1][1] < gap:
            found[-1] = (found[-1][0], max(last, found[-1][1]))
        else:
            found.append((first, last))
    return tuple(found)


def _file(line: str) -> tuple[str, Ranges]:
    name, _, parts = line.partition("\t")
    pairs = (part.split("-") for part in parts.split(","))
    return name, tuple((int(first), int(last)) for first, last in pairs)


def torch_folder() -> Path:
    """Return where torch would be imported from, without importing it."""
    for entry in sys.path:
        if (Path(entry) / "torch" / "version.py").is_file():
            return Path(entry) / "torch"
    return Path("torch")


def _version_in(file: Path) -> str:
    """The text after `__version__ =`, or an empty one."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeError):
        return ""
    return next(
        (line.partition("=")[2].strip(" '\"") for line in lines if line.startswith("__version__")), ""
    )
