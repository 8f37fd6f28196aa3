"""Owns Prometheus's own programs (Debian's package `prometheus`): found, or the test is skipped."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest


def program(name: str) -> str:
    """Where `prometheus` or `promtool` is."""
    found = shutil.which(name)
    if not found:
        pytest.skip(f"{name} is not installed (Debian: apt-get install prometheus)")
    return found


def promtool(*words: str, stdin: bytes | None = None, folder: Path | None = None) -> tuple[int, str]:
    """Run it: exit code, and all that it says."""
    command = [program("promtool"), *words]
    ran = subprocess.run(command, input=stdin, cwd=folder, capture_output=True, check=False, timeout=60)
    return ran.returncode, (ran.stderr + ran.stdout).decode()
