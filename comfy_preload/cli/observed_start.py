"""Start ComfyUI up to the moment before its port opens, and return what `trace` and `imports` need."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from comfy_preload.core.errors import PreloadError, problem

TIMEOUT = 600.0
"""Seconds for one start."""


@dataclass(frozen=True)
class ObservedStart:
    """What one start showed."""

    seen: Mapping[str, Any]
    """See `observed_main.look`."""
    log: str
    """ComfyUI's log; with `import_times` the lines of `python -X importtime` are among it."""


def observe(python: Path, comfyui: Path, arguments: Sequence[str], *, import_times: bool) -> ObservedStart:
    """Start ComfyUI once and return what was seen. Raises PreloadError: comfyui_unusable."""
    with tempfile.TemporaryDirectory(prefix="comfy-preload-") as folder:
        answer = Path(folder) / "answer.json"
        plugin = Path(__file__).resolve().parents[2]
        script = Path(__file__).with_name("observed_main.py")
        command = [str(python), *(["-X", "importtime"] if import_times else []), str(script)]
        command += [str(plugin), str(answer), str(comfyui / "main.py"), *arguments]
        environment = {
            **os.environ,
            "PRELOAD_CONFIG": os.devnull,
        }  # nothing is preloaded, and probes do not answer
        try:
            done = subprocess.run(  # noqa: S603 — ComfyUI, as its user would start it
                command,
                cwd=comfyui,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=TIMEOUT,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            reason = getattr(error, "strerror", None) or f"no end within {TIMEOUT:.0f} s"
            raise PreloadError(
                problem("comfyui_unusable", error=type(error).__name__, reason=reason)
            ) from error
        log = done.stdout.decode(errors="replace")
        if not answer.is_file():
            last = next((line for line in reversed(log.splitlines()) if line.strip()), "no output")
            raise PreloadError(
                problem("comfyui_unusable", error=f"exit status {done.returncode}", reason=last[:200])
            )
        return ObservedStart(json.loads(answer.read_text(encoding="utf-8")), log)
