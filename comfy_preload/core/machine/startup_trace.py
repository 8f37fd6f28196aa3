"""Which files, and which parts of them, this process has read since it began.

Python's modules and mapped libraries.

Reads `/proc/self/maps` and `/proc/self/pagemap` (Linux; one needs no rights for one's own process). `mincore`
is not used: for a file that this process may not write to it reports every page as cached.
"""

from __future__ import annotations

import array
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from comfy_preload.core.machine.startup_record import Ranges, StartupRecord, merged

GAP = 128 << 10
"""Bytes between two parts of a file up to which they are read in one go."""
_PAGE = 4096
_THERE = 0b11 << 62
"""Bits of a page in pagemap: present in RAM, or swapped out."""


def trace(made_for: Mapping[str, str]) -> StartupRecord:
    """Record what was read so far, in the order in which Python imported it. Takes some 100 ms.

    Raises OSError where the kernel does not say (not Linux, or some sandboxes).
    """
    mapped = _mapped()
    libraries = {path: parts for path, parts in mapped.items() if parts}
    files: dict[str, Ranges] = {}
    for file in _module_files():
        if file in libraries:
            _take_with_its_libraries(file, libraries, files)
        elif (size := _size(file)) > 0:
            files.setdefault(file, ((0, size),))
    return StartupRecord(made_for, {**files, **libraries})


def _take_with_its_libraries(module: str, libraries: dict[str, Ranges], files: dict[str, Ranges]) -> None:
    """The libraries beside an extension module are loaded before it: `torch/lib/*.so` with `torch/_C.so`."""
    package = _folder_of(module)
    for path in [one for one in libraries if package and _folder_of(one) == package and one != module]:
        files[path] = libraries.pop(path)
    files[module] = libraries.pop(module)


def package_of(path: str) -> str:
    """Return the installed package that a file belongs to; outside of site-packages, the file's folder."""
    _, found, after = path.partition("/site-packages/")
    return after.partition("/")[0] if found else os.path.dirname(path)  # noqa: PTH120 — thousands of them


def _folder_of(path: str) -> str:
    """`…/site-packages/torch/lib/x.so` -> `…/site-packages/torch`.

    Torch's CUDA libraries are separate packages.
    """
    before, found, after = path.partition("/site-packages/")
    name = after.partition("/")[0]
    return f"{before}{found}{'torch' if name == 'nvidia' else name.removesuffix('.libs')}" if found else ""


def _module_files() -> Iterator[str]:
    """The bytecode or extension of each module, in import order."""
    for module in list(sys.modules.values()):
        spec = getattr(module, "__spec__", None)
        cached, origin = getattr(spec, "cached", None), getattr(spec, "origin", None)
        for file in (cached, origin):
            if isinstance(file, str) and os.path.isabs(file) and _size(file) > 0:  # noqa: PTH117 — thousands of them
                # maps shows where links lead; a venv is often reached through one
                yield os.path.realpath(file) if file.endswith((".so", ".pyd")) else file
                break


def _mapped() -> dict[str, Ranges]:
    """The parts of each mapped file that were touched, in the order of mapping.

    Later ones have lower addresses.
    """
    found: dict[str, list[tuple[int, int]]] = {}
    with Path("/proc/self/maps").open(encoding="utf-8", errors="surrogateescape") as maps:
        lines = maps.read().splitlines()
    with Path("/proc/self/pagemap").open("rb", buffering=0) as pages:
        for line in reversed(lines):
            area, _, offset, _, inode, *path = line.split(maxsplit=5)
            if inode == "0" or not path or not path[0].startswith("/") or path[0].endswith(" (deleted)"):
                continue
            first, last = (int(address, 16) for address in area.split("-"))
            parts = found.setdefault(path[0], [])
            parts += (
                (int(offset, 16) + a, int(offset, 16) + b) for a, b in _touched(pages.fileno(), first, last)
            )
    return {path: _within(path, merged(parts, GAP)) for path, parts in found.items()}


def _touched(pagemap: int, first: int, last: int) -> Iterator[tuple[int, int]]:
    """Offsets (from `first`) of the runs of touched pages in one mapping."""
    entries = array.array("Q")
    entries.frombytes(os.pread(pagemap, (last - first) // _PAGE * 8, first // _PAGE * 8))
    began = -1
    for number, entry in enumerate(entries):
        there = bool(entry & _THERE)
        if there and began < 0:
            began = number
        elif not there and began >= 0:
            yield began * _PAGE, number * _PAGE
            began = -1
    if began >= 0:
        yield began * _PAGE, len(entries) * _PAGE


def _within(path: str, parts: Ranges) -> Ranges:
    size = _size(path)
    return tuple((first, min(last, size)) for first, last in parts if first < size)


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size  # noqa: PTH116 — thousands of them
    except (OSError, ValueError):
        return -1
