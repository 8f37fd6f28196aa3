"""`convert` refuses what it should, needs little memory, and leaves a whole file or none."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.cli.command import ROOT, command, environment, run, start
from tests.cli.weights import converted, raw, row, wide
from tests.support.bad_files import write_bad_files
from tests.support.models import tiny_unet

CONVERT = """
import importlib, sys
sys.path.insert(0, sys.argv[1])
assert importlib.import_module("comfy_preload.cli").main(sys.argv[2:]) == 0
assert "torch" not in sys.modules
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.mark.parametrize("name", ["model.ckpt", "model.pt", "model.bin", "model.gguf", "model"])
def test_other_kinds(tmp_path: Path, name: str) -> None:
    """Pickles are not opened, other kinds neither; the hint says what to do."""
    (tmp_path / name).write_bytes(b"\x80\x04.")
    done = run("convert", tmp_path / name, tmp_path / "out.safetensors", "--dtype", "fp16", "--json")

    assert (1, "convert_input") == (done.code, done.json["error"]["code"])
    assert done.json["error"]["hint"]


def test_bad_headers(tmp_path: Path) -> None:
    """The same codes as the preflight, for the same files."""
    folder = tmp_path / "diffusion_models"
    tiny_unet(folder / "tiny.safetensors")
    (tmp_path / "checkpoints").mkdir()
    write_bad_files(tmp_path, tmp_path / "bomb")
    (folder / "sparse.safetensors").unlink()  # 2 TB of zeros, and nothing wrong with it
    codes = {
        "empty": "file_empty",
        "page": "file_not_safetensors",
        "pointer": "file_not_safetensors",
        "garbage": "file_not_safetensors",
        "no json": "file_not_safetensors",
        "huge header": "file_not_safetensors",
        "truncated": "file_truncated",
        "a folder": "file_unreadable",
        "absent": "file_unreadable",
    }
    for name, code in codes.items():
        done = run(
            "convert",
            folder / f"{name}.safetensors",
            tmp_path / "out.safetensors",
            "--dtype",
            "fp16",
            "--json",
        )
        assert (1, code) == (done.code, done.json["error"]["code"]), name
        assert "Traceback" not in done.err
    assert not [p for p in tmp_path.iterdir() if p.is_file()]


@pytest.mark.parametrize(
    "header",
    [
        pytest.param({"a": row("F32", [3], 0, 8)}, id="shape-too-large"),
        pytest.param(
            {"a": row("F32", [1], 0, 4), "b": row("F32", [1], 2, 8), "c": row("F16", [], 6, 8)}, id="overlap"
        ),
        pytest.param({"a": row("F32", [1], 4, 8)}, id="hole"),
        pytest.param({"a": row("F32", [-2, -1], 0, 8) | {"shape": None}}, id="no-shape"),
        pytest.param({"a": {"dtype": "F32", "data_offsets": [0, 8]}}, id="shape-missing"),
        pytest.param({"a": row("F32", [2], 0, 8), "__metadata__": ["x"]}, id="metadata-no-table"),
        pytest.param({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0.5, 8]}}, id="half-a-byte"),
    ],
)
def test_header_that_does_not_add_up(tmp_path: Path, header: dict[str, Any]) -> None:
    """What the preflight does not look at, but would make a wrong file."""
    source = raw(tmp_path / "in.safetensors", header, bytes(8))
    done = run("convert", source, tmp_path / "out.safetensors", "--dtype", "fp16", "--json")

    assert (1, "file_not_safetensors") == (done.code, done.json["error"]["code"])
    assert ["in.safetensors"] == [p.name for p in tmp_path.iterdir()]


def small(path: Path) -> Path:
    save_file({"w": np.ones(4, np.float32)}, path)
    return path


@pytest.mark.parametrize("how", ["same", "link", "hard-link", "dots"])
def test_onto_itself(tmp_path: Path, how: str) -> None:
    """The input is never written to, whatever it is called and with --force too."""
    source = small(tmp_path / "in.safetensors")
    target = {"same": source, "dots": tmp_path / "x" / ".." / "in.safetensors"}.get(
        how, tmp_path / "other.safetensors"
    )
    (tmp_path / "x").mkdir()
    if how == "link":
        target.symlink_to(source)
    elif how == "hard-link":
        target.hardlink_to(source)
    before = source.read_bytes()
    done = run("convert", source, target, "--dtype", "fp16", "--force", "--json")

    assert (2, "output_refused") == (done.code, done.json["error"]["code"])
    assert before == source.read_bytes()


def test_existing(tmp_path: Path) -> None:
    """A file that is there is replaced only with --force, and then at once."""
    source, target = small(tmp_path / "in.safetensors"), tmp_path / "out.safetensors"
    target.write_text("mine")

    assert 2 == run("convert", source, target, "--dtype", "fp16").code
    assert "mine" == target.read_text()
    assert 0 == run("convert", source, target, "--dtype", "fp16", "--force").code
    assert np.float16 == load_file(target)["w"].dtype


def test_folder_in_the_way(tmp_path: Path) -> None:
    """A folder is not replaced."""
    (tmp_path / "out.safetensors").mkdir()

    assert (
        2
        == run(
            "convert",
            small(tmp_path / "in.safetensors"),
            tmp_path / "out.safetensors",
            "--dtype",
            "fp16",
            "--force",
        ).code
    )


def test_no_such_folder(tmp_path: Path) -> None:
    """Said in a sentence."""
    done = run(
        "convert",
        small(tmp_path / "in.safetensors"),
        tmp_path / "no" / "out.safetensors",
        "--dtype",
        "fp16",
        "--json",
    )

    assert (1, "output_failed") == (done.code, done.json["error"]["code"])


@pytest.mark.skipif(sys.platform == "win32", reason="resource limits")
def test_disk_full(tmp_path: Path) -> None:
    """Writing fails half-way: no output, nothing left beside it."""
    save_file({"w": wide()}, tmp_path / "in.safetensors")
    words = command(
        "convert", tmp_path / "in.safetensors", tmp_path / "out.safetensors", "--dtype", "fp16", "--json"
    )
    limited = ["bash", "-c", 'trap "" XFSZ; ulimit -f 2000; exec "$@"', "bash", *words]
    done = subprocess.run(limited, check=False, capture_output=True, text=True, timeout=60, env=environment())

    assert 1 == done.returncode, done.stderr
    assert "output_failed" == json.loads(done.stdout)["error"]["code"]
    assert ["in.safetensors"] == [p.name for p in tmp_path.iterdir()]


def large(path: Path, megabytes: int) -> Path:
    """One tensor of many, as text encoders have, and some smaller ones."""
    block = wide(1 << 20, seed=1).tobytes()
    header: dict[str, Any] = {"embedding": row("F32", [megabytes - 64, 1 << 18], 0, (megabytes - 64) << 20)}
    for i in range(8):
        begin = (megabytes - 64 + 8 * i) << 20
        header[f"layer.{i}"] = row("F32", [8, 1 << 18], begin, begin + (8 << 20))
    raw(path, header, b"")
    with path.open("ab") as file:
        for _ in range(megabytes // 4):
            file.write(block)
    return path


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_memory(tmp_path: Path) -> None:
    """For 768 MB, with one tensor of 704 MB, the whole process never has more than 96 MB."""
    source = large(tmp_path / "in.safetensors", 768)
    words = [
        sys.executable,
        "-c",
        CONVERT,
        str(ROOT),
        "convert",
        str(source),
        str(tmp_path / "out.safetensors"),
        "--dtype",
        "fp16",
    ]
    done = subprocess.run(words, check=True, capture_output=True, text=True, timeout=120)
    peak = int(done.stdout.split()[-1]) * 1024

    before, after = source.stat().st_size, (tmp_path / "out.safetensors").stat().st_size
    for file in tmp_path.iterdir():  # pytest would keep them
        file.unlink()

    assert peak < 96 << 20
    assert before / 2 <= after < before / 2 + 4096


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize(("number", "left"), [("SIGTERM", False), ("SIGINT", False), ("SIGKILL", True)])
def test_killed(tmp_path: Path, number: str, left: bool) -> None:  # noqa: FBT001 — a table
    """Killed half-way there is no output.

    A signal that can be handled leaves nothing, and what another leaves does not stop --force.
    """
    source, target = large(tmp_path / "in.safetensors", 512), tmp_path / "out.safetensors"
    part = tmp_path / "out.safetensors.part"
    with start("convert", source, target, "--dtype", "fp16") as process:
        end = time.monotonic() + 30
        while not (part.exists() and part.stat().st_size > 16 << 20):
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.001)
        process.send_signal(signal.Signals[number])
        _, complaint = process.communicate(timeout=30)

    assert process.returncode
    assert "Traceback" not in complaint
    assert not target.exists()
    assert left == part.exists()
    source.unlink()
    small(source)
    assert (2 if left else 0) == run("convert", source, target, "--dtype", "fp16").code
    assert 0 == run("convert", source, target, "--dtype", "fp16", "--force").code
    assert not part.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX modes")
def test_mode(tmp_path: Path) -> None:
    """The output has the mode that any file of this user gets."""
    _, target = converted(tmp_path, {"w": np.ones(4, np.float32)})
    probe = tmp_path / "probe"
    probe.touch()

    assert os.stat(probe).st_mode == target.stat().st_mode  # noqa: PTH116 — plain
