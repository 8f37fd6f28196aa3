"""Prometheus's own programs (Debian's package `prometheus`); without them the test is skipped."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest


def program(name: str) -> str:
    """Return the path of `prometheus` or `promtool`."""
    found = shutil.which(name)
    if not found:
        pytest.skip(f"{name} is not installed (Debian: apt-get install prometheus)")
    return found


def promtool(*words: str, stdin: bytes | None = None, folder: Path | None = None) -> tuple[int, str]:
    """Run it and return its exit code and output."""
    command = [program("promtool"), *words]
    ran = subprocess.run(command, input=stdin, cwd=folder, capture_output=True, check=False, timeout=60)
    return ran.returncode, (ran.stderr + ran.stdout).decode()
