"""The simulated device itself.

It computes what the CPU computes, counts what it holds and copies, and fails as ordered.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support import device
from tools.host import comfyui_python


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    environment = device.options(tmp_path_factory.mktemp("state"))["env"]
    script = Path(__file__).with_name("operators.py")
    done = subprocess.run(
        [str(comfyui_python()), str(script)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def test_it_computes_as_the_cpu_does(found: dict[str, Any]) -> None:
    assert {} == {name: why for name, why in found["differ"].items() if why}


def test_it_counts(found: dict[str, Any]) -> None:
    """Nothing is left of tensors that are gone.

    A weight is held in steps of 512 bytes and counted as copied exactly.
    """
    assert (0, 4_000_000, 4_000_256) == (found["left"], found["copied"], found["held"])


def test_it_raises_what_torch_raises(found: dict[str, Any]) -> None:
    """The classes and texts that ComfyUI and the plugin look at."""
    assert "RuntimeError: Expected all tensors to be on the same device" in found["mixed"]
    assert found["too_large"].startswith("OutOfMemoryError: ")
    assert found["failing"][0].startswith("OutOfMemoryError: ")
    assert "nothing" == found["failing"][1]
    for text in found["dead"]:
        assert text.startswith("AcceleratorError: CUDA error: an illegal memory access")
