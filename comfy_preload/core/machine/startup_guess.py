"""What a start most likely reads, for a first start without a record.

The parts of torch's libraries that linking touches, and the bytecode of packages of which ComfyUI imports
most modules.

The dynamic linker reads symbol and relocation tables (the first segment of a library) and writes to its data
segments; how much of the code is used, only a record shows. Format: ELF64, little-endian, as on every Linux
that torch has wheels for.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator
from pathlib import Path

from comfy_preload.core.machine.startup_record import Ranges, StartupRecord

LIBRARIES = ("libc10.so", "libtorch_cpu.so", "libc10_cuda.so", "libtorch_cuda.so", "libtorch_python.so")
"""In `torch/lib`, in the order in which `import torch` maps them (torch 2.14)."""
PACKAGES = (
    *("numpy", "mpmath", "sympy", "torch", "torchvision", "scipy"),
    *("sqlalchemy", "aiohttp", "pydantic", "kornia", "huggingface_hub"),
)
"""In the order in which ComfyUI 0.3.75 imports them. A start reads two thirds of their bytecode."""
MAX_BYTES = 64 << 20
"""Of one library: more is not symbol tables any more."""
_LOAD, _WRITABLE = 1, 2


def guess(torch: Path) -> StartupRecord:
    """Return a record of what exists. `torch`: the folder of the package; the others are beside it."""
    libraries = ((torch / "lib" / name).resolve() for name in LIBRARIES)
    found = {str(file): parts for file in libraries if (parts := _linked_parts(file))}
    for package in PACKAGES:
        found.update(_bytecode(torch.parent / package))
    return StartupRecord({}, found)


def _bytecode(package: Path) -> Iterator[tuple[str, Ranges]]:
    """The compiled modules of a package for this Python, each as a whole, without its tests."""
    compiled = f"*.{sys.implementation.cache_tag}.pyc"
    for file in sorted(package.rglob(compiled)):
        tests = any(part.startswith("test") for part in file.relative_to(package).parts)
        if not tests and file.is_file():
            yield str(file), ((0, file.stat().st_size),)


def _linked_parts(file: Path) -> Ranges:
    """The first loadable segment and the writable ones, as (first byte, byte behind the last)."""
    try:
        with file.open("rb") as stream:
            head = stream.read(64)
            if head[:6] != b"\x7fELF\x02\x01":
                return ()
            (table,) = struct.unpack_from("<Q", head, 32)
            size, count = struct.unpack_from("<HH", head, 54)
            stream.seek(table)
            entries = stream.read(size * count)
        segments = [struct.unpack_from("<IIQQQQ", entries, number * size) for number in range(count)]
    except (OSError, ValueError, struct.error):
        return ()
    loaded = [(flags, offset, length) for kind, flags, offset, _, _, length in segments if kind == _LOAD]
    wanted = [(o, o + n) for index, (f, o, n) in enumerate(loaded) if index == 0 or f & _WRITABLE]
    return tuple((first, last) for first, last in wanted if first < last <= first + MAX_BYTES)
