"""Without a record, what a start most likely reads is guessed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from comfy_preload.core.machine.startup_guess import guess

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="read ahead on Linux only")


@LINUX
def test_guess() -> None:
    """Of a real library the part with the symbols is read, and the data; other files give nothing."""
    import torch  # its folder only, in the tests' own Python

    found = guess(Path(torch.__file__).parent)
    sizes = {Path(file).name: (Path(file).stat().st_size, parts) for file, parts in found.files.items()}

    size, parts = sizes["libtorch_cpu.so"]
    assert 0 == parts[0][0]
    assert 0 < sum(last - first for first, last in parts) < size / 4


@LINUX
def test_guess_of_modules(tmp_path: Path) -> None:
    """Whole bytecode for this Python, in the order of the packages; no tests, sources or dangling links."""
    tag = sys.implementation.cache_tag
    names = (f"torch/__pycache__/a.{tag}.pyc", f"numpy/linalg/__pycache__/b.{tag}.pyc")
    others = (f"numpy/tests/__pycache__/test_b.{tag}.pyc", "numpy/__pycache__/c.cpython-27.pyc", "numpy/d.py")
    for name in (*names, *others, f"unknown/__pycache__/e.{tag}.pyc"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"bytecode")
    (tmp_path / f"torch/__pycache__/gone.{tag}.pyc").symlink_to(tmp_path / "gone")
    found = guess(tmp_path / "torch").files

    assert {str(tmp_path / name): ((0, 8),) for name in names} == found
    assert [str(tmp_path / names[1]), str(tmp_path / names[0])] == list(found)


@pytest.mark.parametrize(
    "content", [b"", b"\x7fELF", b"\x7fELF\x02\x01" + b"\xff" * 58, b"GROUP ( libc.so.6 )"]
)
def test_guess_without_a_library(tmp_path: Path, content: bytes) -> None:
    """A file that is not a library, or a broken one, is left out."""
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "libc10.so").write_bytes(content)

    assert {} == guess(tmp_path).files
    assert {} == guess(tmp_path / "absent").files
