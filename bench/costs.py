"""What the plugin costs where it does nothing: the import with an empty list, and a health check.

Seconds, medians.

python -m bench.costs --rounds 20

The targets are 50 ms for the import, beside yaml, aiohttp and psutil, which ComfyUI has already imported, and
150 ms for `python preload.py wait --once`, Python's own start included. Tests count modules instead
(tests/loader, tests/cli).
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.support.base_directory import PLUGIN, put_plugin
from tests.support.comfy import free_port
from tools.host import ROOT

LOAD = ROOT / "tests" / "support" / "load_as_comfyui.py"


def import_seconds(folder: Path) -> float:
    """Of a fresh interpreter that imports the plugin in `folder` as ComfyUI does, settings as shipped."""
    done = subprocess.run(
        [sys.executable, "-I", str(LOAD), str(folder)], check=True, capture_output=True, text=True
    )
    found: float = json.loads(done.stdout)["seconds"]
    return found


def health_check_seconds(folder: Path) -> float:
    """Of one whole process that asks a port where nothing listens."""
    command = [
        sys.executable,
        str(folder / "preload.py"),
        "wait",
        "--once",
        f"http://127.0.0.1:{free_port()}",
    ]
    began = time.perf_counter()
    subprocess.run(command, check=False, capture_output=True)
    return time.perf_counter() - began


COSTS: dict[str, Callable[[Path], float]] = {
    "import, nothing to preload (target 50 ms)": import_seconds,
    "preload.py wait --once (target 150 ms)": health_check_seconds,
}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="What the plugin costs where it does nothing.")
    parser.add_argument("--rounds", type=int, default=10)
    rounds: int = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        plugin = put_plugin(Path(folder) / PLUGIN)
        for what, cost in COSTS.items():
            cost(plugin)  # once, for the bytecode
            seconds = [cost(plugin) for _ in range(rounds)]
            middle, least, most = statistics.median(seconds), min(seconds), max(seconds)
            print(f"{what}: median {middle * 1e3:.0f} ms, {least * 1e3:.0f} to {most * 1e3:.0f}")


if __name__ == "__main__":
    main()
