r"""Draw one start of ComfyUI in a fresh container, alone and with the plugin: what it reads and computes.

python -m bench.timeline --size three --plot docs/timeline.svg
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from bench.coldstart import ARMS, OUT, SIZES
from bench.measure import DEADLINE, EVICTIONS, WORKFLOW, Arm, record_start
from bench.scenario import Scenario
from tests.support.comfy import ComfyServer
from tools.host import comfyui_path, comfyui_python

EVERY = 0.1
"""Seconds between two samples."""
MARKS = {
    "pytorch version": "torch imported",
    "Import times for custom nodes": "nodes imported",
    "of libraries in": "libraries read ahead",
    "[preload] loaded": "loaded",
    "[preload] ready": "ready",
    "To see the GUI go to": "listening",
    "got prompt": "prompt",
}
"""A part of a line of ComfyUI's log -> what is written into the drawing."""


@dataclass
class Line:
    """One start: samples of the process and its children since it began, and marks of its log, in seconds."""

    title: str
    at: list[float] = field(default_factory=list)
    cores: list[float] = field(default_factory=list)
    """Processors in use."""
    reading: list[float] = field(default_factory=list)
    """GB/s from the storage."""
    waiting: list[float] = field(default_factory=list)
    """Share of the time that the main thread waits for the storage."""
    marks: list[tuple[float, str]] = field(default_factory=list)
    first_image: float = 0.0


def watch(scenario: Scenario, arm: Arm, record: Path) -> Line:
    """Start ComfyUI with nothing in the page cache, run one prompt, and sample it all the while."""
    EVICTIONS["everything"](scenario)
    line, over = Line(arm.title), threading.Event()
    with tempfile.TemporaryDirectory(prefix="preload-line-") as folder:
        base = Path(folder)
        workflow = WORKFLOW if arm.workflow else ""
        server = ComfyServer(
            base,
            host=comfyui_path(),
            python=comfyui_python(),
            plugin=arm.settings is not None,
            preload=f"{arm.settings}\n{scenario.preload}{workflow}" if arm.settings else None,
            models=scenario.models,
        )
        (base / "warm-up.json").write_text(json.dumps(scenario.prompt(0)), encoding="utf-8")
        own = base / "user" / "comfy-preload" / "startup.trace"
        own.parent.mkdir(parents=True)
        own.write_bytes(record.read_bytes())
        begun = time.monotonic()
        with server:
            sampling = threading.Thread(target=_sample, args=(server, line, begun, over))
            sampling.start()
            server.wait_listening(DEADLINE)
            if arm.settings:
                server.wait_ready(DEADLINE)
            server.result(server.queue(scenario.prompt(1)), DEADLINE, every=0.01)
            line.first_image = time.monotonic() - begun
            over.set()
            sampling.join()
    return line


def _sample(server: ComfyServer, line: Line, begun: float, over: threading.Event) -> None:
    tick = os.sysconf("SC_CLK_TCK")
    then, before = begun, (0.0, 0.0, 0.0)
    seen = 0
    while not over.wait(EVERY):
        now = time.monotonic()
        pids = [p for p in (server.pid, *_children(server.pid)) if p]
        stats = [fields for pid in pids if (fields := _stat(pid))]
        main = _stat(server.pid or 0)
        counted = (
            sum(float(f[11]) + float(f[12]) for f in stats) / tick,  # utime, stime
            sum(_read_bytes(pid) for pid in pids) / 1e9,
            float(main[39]) / tick if main else before[2],  # delayacct_blkio_ticks
        )
        lasted = now - then
        # a child that has ended takes its counters with it
        rates = [max(0.0, value - old) / lasted for value, old in zip(counted, before, strict=True)]
        line.at.append(now - begun)
        for values, rate in zip((line.cores, line.reading, line.waiting), rates, strict=True):
            values.append(rate)
        then, before = now, counted
        text = server.log
        line.marks += [
            (now - begun, mark) for part, mark in MARKS.items() for _ in range(text[seen:].count(part))
        ]
        seen = len(text)


def _children(pid: int | None) -> list[int]:
    found: list[int] = []
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += map(int, file.read_text(encoding="ascii").split())
    return found


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from `state` on (proc(5))."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return []


def _read_bytes(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/io").read_text(encoding="ascii")
    except OSError:
        return 0
    return int(dict(row.split(": ") for row in text.splitlines())["read_bytes"])


def plot(lines: list[Line], file: Path) -> None:
    """Draw processors in use and GB/s over time, a strip for each start."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(len(lines), 1, figsize=(10, 3 * len(lines)), sharex=True, squeeze=False)
    for axis, line in zip(axes[:, 0], lines, strict=True):
        axis.fill_between(
            line.at, line.cores, color="#4a7db5", alpha=0.6, step="pre", label="processors in use"
        )
        axis.plot(line.at, line.reading, color="#d8743c", label="GB/s from the disk")
        top = max(2.2, *line.cores, *line.reading)
        for number, (at, mark) in enumerate(line.marks):
            axis.axvline(at, color="#888888", linewidth=0.6)
            axis.text(at, top * (0.97 - 0.1 * (number % 4)), f" {mark}", fontsize=7, va="top")
        axis.axvline(line.first_image, color="black")
        axis.set_ylim(0, top)
        axis.set_title(f"{line.title}: first image after {line.first_image:.1f} s", loc="left", fontsize=10)
        axis.legend(loc="center right", fontsize=8)
    axes[-1, 0].set_xlabel("seconds from the start of the process")
    figure.tight_layout()
    figure.savefig(file)


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Draw a start of ComfyUI, alone and with the plugin.")
    parser.add_argument("--size", choices=list(SIZES), default="three")
    parser.add_argument("--arm", action="append", choices=list(ARMS), help="default: alone, preload")
    parser.add_argument("--plot", type=Path, default=OUT / "timeline.svg", metavar="FILE")
    options = parser.parse_args()
    OUT.mkdir(exist_ok=True)
    record = record_start(OUT / "startup.trace", cpu=True)
    lines = [
        watch(SIZES[options.size](OUT), ARMS[arm], record) for arm in options.arm or ["alone", "preload"]
    ]
    for line in lines:
        busy = sum(line.cores) * EVERY
        print(f"{line.title}: first image {line.first_image:.1f} s, {busy:.1f} s of processor time")
        print("\n".join(f"  {at:5.1f} s  {mark}" for at, mark in line.marks))
        idle = [
            at
            for at, cores, rate in zip(line.at, line.cores, line.reading, strict=True)
            if cores + rate < 0.3
        ]
        print(f"  idle: {len(idle) * EVERY:.1f} s, at {', '.join(f'{at:.1f}' for at in idle[:20])}")
    plot(lines, options.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
