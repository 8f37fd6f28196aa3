"""Owns the building of the simulated accelerator (tests/support/simdev).

One call of g++, against the headers in torch's wheel.

The library is kept in `.host/simdev` under the digest of its source and torch's version, so it is built once
for each.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "tests" / "support" / "simdev" / "src"
BUILT = ROOT / ".host" / "simdev"
COMPILER = "g++"
_WHERE_TORCH_IS = (
    "import importlib.metadata as m, importlib.util as u;"
    "print(m.version('torch'), *u.find_spec('torch').submodule_search_locations, sep='\\n')"
)


class CannotBuildError(Exception):
    """There can be no simulated device here; the sentence says why."""


def library(python: Path) -> Path:
    """The built library for the torch of this Python; builds it if need be (20 s)."""
    if sys.platform != "linux":
        raise CannotBuildError("the simulated device is for Linux only")
    version, folder = _torch(python)
    files = sorted(SOURCE.iterdir())
    parts = [version.encode(), *(file.read_bytes() for file in files)]
    target = BUILT / f"{_digest(parts)}.so"
    if not target.is_file():
        _compile(folder, target)
    return target


def _digest(parts: list[bytes]) -> str:
    return hashlib.sha256(b"".join(parts)).hexdigest()[:16]


def _torch(python: Path) -> tuple[str, Path]:
    done = subprocess.run([str(python), "-c", _WHERE_TORCH_IS], check=False, capture_output=True, text=True)
    if done.returncode:
        raise CannotBuildError(f"the simulated device needs torch, which {python.name} has not")
    version, folder = done.stdout.split("\n")[:2]
    return version, Path(folder)


def _compile(torch: Path, target: Path) -> None:
    if shutil.which(COMPILER) is None:
        raise CannotBuildError(f"the simulated device is built with {COMPILER}, which is not installed")
    BUILT.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=BUILT) as scratch:
        made = Path(scratch) / "simdev.so"
        include = torch / "include"
        command = [
            *(COMPILER, "-std=c++20", "-O1", "-fPIC", "-shared", str(SOURCE / "simdev.cpp"), "-o", str(made)),
            *(f"-I{include}", f"-I{include / 'torch' / 'csrc' / 'api' / 'include'}", f"-L{torch / 'lib'}"),
            *("-Wl,--no-as-needed", "-ltorch_cpu", "-lc10"),
        ]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            raise CannotBuildError(f"the simulated device does not compile: {done.stderr[-2000:]}")
        made.replace(target)  # whole or not at all, a user who else builds it


if __name__ == "__main__":  # without it the tests that need it are skipped, so this is not a failure
    try:
        library(Path(sys.argv[1]))
    except CannotBuildError as reason:
        print(f"setup: tests/device will be skipped: {reason}")
