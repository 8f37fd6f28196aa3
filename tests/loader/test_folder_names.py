"""A clone works in a folder of any name: hyphens, a blank, Chinese."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tools.host import ROOT

NAMES = ["comfyui-preload", "comfy-preload", "Comfy Preload", "预加载"]
MADE = shutil.ignore_patterns(
    ".venv", ".host", ".git", "__pycache__", ".*_cache", ".hypothesis", "out", "dist"
)


@pytest.fixture(scope="module", params=NAMES)
def clone(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The working tree in a folder of that name, without what `make` and the tests made."""
    return Path(shutil.copytree(ROOT, tmp_path_factory.mktemp("clone") / request.param, ignore=MADE))


def run(clone: Path, *words: object) -> str:
    """Output of a command that runs in the clone; it must succeed."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PRELOAD_", "MAKE", "MFLAGS"))}
    done = subprocess.run(
        [*map(str, words)],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
        cwd=clone,
        env=environment,
    )
    assert 0 == done.returncode, done.stdout + done.stderr
    return done.stdout


def test_lint(clone: Path) -> None:
    """No rule depends on the folder's name."""
    run(clone, sys.executable, "-m", "ruff", "check", "--no-cache", ".")
    run(clone, sys.executable, "-m", "ruff", "format", "--no-cache", "--check", ".")


def test_make(clone: Path) -> None:
    """Each target can be read, and names its files relative to the folder."""
    for target in ("help", "-n quick", "-n test", "-n demo", "-n nightly"):
        assert clone.name not in run(clone, "make", *target.split())


def test_pytest(clone: Path) -> None:
    """Tests find the package of this folder, and no other."""
    tests = "tests/unit/test_imports.py"

    assert " passed" in run(clone, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", tests)


def test_start(clone: Path) -> None:
    """ComfyUI imports the plugin from there, and the command line runs."""
    child = clone / "tests" / "support" / "load_as_comfyui.py"
    found = json.loads(run(clone, sys.executable, "-I", child, clone, "/ready"))

    assert 200 == found["answers"]["/ready"][0]
    assert "usage: " in run(clone, sys.executable, "preload.py", "--help")
