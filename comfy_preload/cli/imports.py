"""`imports`: what each node pack and each heavy package costs at ComfyUI's start."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePath
from typing import Any

from comfy_preload.cli import comfyui
from comfy_preload.cli.observed_start import ObservedStart, observe
from comfy_preload.cli.output import say, say_json, table
from comfy_preload.core.text import gigabytes

SHOWN = 25
"""Rows of each table; --json has them all."""
_PACK = re.compile(r"^\s*(\d+(?:\.\d+)?) seconds( \(IMPORT FAILED\))?: (.+)$")
"""ComfyUI's own report, to a tenth of a second.

Source: `init_external_custom_nodes`, nodes.py, 0.3.75 and 0.33.0.
"""
_IMPORT = re.compile(r"^import time:\s*(\d+) \|\s*(\d+) \| ( *)(\S+)$")
"""A line of `python -X importtime`: own and whole time in microseconds, depth, module.

Children come before their parent.
"""


@dataclass(frozen=True)
class Pack:
    """One folder or file of `custom_nodes`, or ComfyUI's API nodes."""

    name: str
    seconds: float
    failed: bool
    classes: int
    needed: bool | None
    """A listed workflow uses one of its classes; None where no workflow is listed."""
    flag: str
    """The argument of ComfyUI that leaves it out."""


@dataclass(frozen=True)
class Package:
    """One installed package: the time of its own modules, without what they import from others."""

    name: str
    seconds: float
    bytes: int


def run(options: argparse.Namespace) -> int:
    """Start ComfyUI once, without its port, and print what it spent."""
    folder = comfyui.find(options.comfyui)
    start = observe(options.python or Path(sys.executable), folder, options.arguments, import_times=True)
    used = _classes_used(options)
    packs, packages = packs_of(start, used), packages_of(start)
    if options.json:
        rows = {"packs": [asdict(one) for one in packs], "packages": [asdict(one) for one in packages]}
        say_json({"seconds": round(start.seen["seconds"], 3), **rows})
        return 0
    _say_packs(packs)
    rows_of = ((one.name, f"{one.seconds:.2f}", gigabytes(one.bytes)) for one in packages[:SHOWN])
    table("Packages", ("package", "seconds", "read"), rows_of, right=(1, 2))
    say(f"\n{start.seen['seconds']:.1f} s from the start of Python to the last node pack")
    say("Seconds are a start's under `python -X importtime`, which makes it some tenths slower.")
    return 0


def _say_packs(packs: Iterable[Pack]) -> None:
    words = {True: "yes", False: "no", None: ""}
    rows = [
        (
            one.name,
            f"{one.seconds:.1f}",
            str(one.classes),
            words[one.needed],
            "failed" if one.failed else one.flag,
        )
        for one in packs
    ]
    if rows:
        head = ("pack", "seconds", "classes", "in a listed workflow", "to leave it out")
        table("Node packs", head, rows[:SHOWN], right=(1, 2))


def packs_of(start: ObservedStart, used: set[str] | None) -> list[Pack]:
    """Return the packs, slowest first.

    `used`: the node classes of the listed workflows, None if there are none.
    """
    classes: dict[str, set[str]] = {}
    for name, module in start.seen["classes"].items():
        classes.setdefault(module.rpartition(".")[2], set()).add(name)
    found: list[Pack] = []
    for line in start.log.splitlines():
        if not (match := _PACK.match(line)):
            continue
        seconds, failed, path = float(match[1]), bool(match[2]), PurePath(match[3])
        own = classes.get(path.stem if path.suffix == ".py" else path.name, set())
        needed = None if used is None else bool(own & used)
        flag = f"move it out of custom_nodes, or --whitelist-custom-nodes without {path.name}"
        found.append(Pack(path.name, seconds, failed, len(own), needed, flag))
    if api := {name for name, module in start.seen["classes"].items() if "comfy_api_nodes" in module}:
        needed = None if used is None else bool(api & used)
        seconds = _seconds_below(start.log).get("comfy_api_nodes", 0.0)
        found.append(Pack("comfy_api_nodes", seconds, False, len(api), needed, "--disable-api-nodes"))  # noqa: FBT003
    return sorted(found, key=lambda pack: -pack.seconds)


def packages_of(start: ObservedStart) -> list[Package]:
    """Return the packages that took time, slowest first."""
    read: Mapping[str, Any] = start.seen["bytes"]
    seconds = _seconds_below(start.log)
    found = (Package(name, round(time, 3), int(read.get(name, 0))) for name, time in seconds.items())
    return sorted((one for one in found if one.seconds >= 0.01), key=lambda one: -one.seconds)


def _seconds_below(log: str) -> dict[str, float]:
    """Own time of all modules of each top-level package."""
    found: dict[str, float] = {}
    for line in log.splitlines():
        if match := _IMPORT.match(line):
            package = match[4].partition(".")[0]
            found[package] = found.get(package, 0.0) + int(match[1]) / 1e6
    return found


def _classes_used(options: argparse.Namespace) -> set[str] | None:
    from comfy_preload.cli.workflows import classes_in
    from comfy_preload.core.settings.document import settings_path
    from comfy_preload.core.settings.validation import load

    settings = load(options.config or settings_path())
    return classes_in(settings) if settings.workflows else None
