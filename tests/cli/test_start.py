"""`trace` and `imports`: a real ComfyUI is started up to its port, and what it did is reported."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from comfy_preload.cli.imports import packages_of, packs_of
from comfy_preload.cli.observed_start import ObservedStart
from comfy_preload.core.machine.startup_record import read
from tests.cli.command import run
from tools.host import comfyui_path, comfyui_python

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux only")
LOG = """
import time:       500 |        500 |     torch.version
import time:   1500000 |    1500500 |   torch
import time:     20000 |    1520500 | comfy.model_management
import time:         3 |          3 | json
Import times for custom nodes:
   0.2 seconds: /x/custom_nodes/needed
   1.5 seconds (IMPORT FAILED): /x/custom_nodes/broken
   0.0 seconds: /x/custom_nodes/single_file.py
"""


def start() -> ObservedStart:
    classes = {"A": "custom_nodes.needed", "B": "custom_nodes.single_file", "Api": "comfy_api_nodes.nodes_x"}
    return ObservedStart({"classes": classes, "bytes": {"torch": 5}, "seconds": 9.0}, LOG)


def test_packs() -> None:
    """Slowest first; a pack is needed if a listed workflow uses a class of it."""
    packs = packs_of(start(), {"A", "KSampler"})

    assert [("broken", True, False), ("needed", False, True)] == [
        (p.name, p.failed, p.needed) for p in packs[:2]
    ]
    assert {"--disable-api-nodes"} == {p.flag for p in packs if p.name == "comfy_api_nodes"}
    assert {None} == {p.needed for p in packs_of(start(), None)}


def test_packages() -> None:
    """The time of a package is that of its own modules."""
    assert [("torch", 1.5, 5), ("comfy", 0.02, 0)] == [
        (p.name, p.seconds, p.bytes) for p in packages_of(start())
    ]


def test_trace(tmp_path: Path) -> None:
    """The record of a real start names torch's libraries before its extension module."""
    output = tmp_path / "startup.trace"
    words = ("--comfyui", comfyui_path(), "--python", comfyui_python(), "--output", output)
    done = run("trace", *words, "--json", "--", "--cpu", "--base-directory", _base(tmp_path))

    assert 0 == done.code, done.err
    record = read(output)
    assert done.json["files"] == len(record.files) > 1000
    names = [Path(file).name for file in record.files]
    assert names.index("libtorch_cpu.so") < next(i for i, n in enumerate(names) if n.startswith("_C.cpython"))


def test_no_comfyui(tmp_path: Path) -> None:
    """A start that fails is said with its last line."""
    (tmp_path / "folder_paths.py").write_text("")
    (tmp_path / "main.py").write_text("raise RuntimeError('no such thing')")
    done = run("imports", "--comfyui", tmp_path, "--json")

    assert 1 == done.code
    assert "no such thing" in done.json["error"]["message"]


def _base(tmp_path: Path) -> Path:
    for name in ("custom_nodes", "models", "input", "output", "user"):
        (tmp_path / "base" / name).mkdir(parents=True)
    return tmp_path / "base"
