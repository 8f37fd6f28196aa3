"""Owns the command line as a user has it: a process of its own, in a Python that has imported nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]


class Done(NamedTuple):
    """How a command ended and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def command(*words: object, plugin: Path = ROOT) -> list[str]:
    """What to start."""
    return [sys.executable, str(plugin / "preload.py"), *map(str, words)]


def environment(env: Mapping[str, str | Path] | None = None) -> dict[str, str]:
    """Ours, without what would change the settings, and with these."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PRELOAD_", "COMFYUI_"))}
    return clean | {name: str(value) for name, value in (env or {}).items()}


def run(*words: object, env: Mapping[str, str | Path] | None = None, timeout: float = 120) -> Done:
    """Run `python preload.py …` to its end."""
    done = subprocess.run(
        command(*words), check=False, capture_output=True, text=True, timeout=timeout, env=environment(env)
    )
    return Done(done.returncode, done.stdout, done.stderr)


def start(*words: object, env: Mapping[str, str | Path] | None = None) -> subprocess.Popen[str]:
    """The same, without waiting for it."""
    return subprocess.Popen(
        command(*words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(env)
    )
