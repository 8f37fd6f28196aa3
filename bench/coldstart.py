r"""Measure cold starts, several ways in turns: the figures of docs/performance.md (`make bench`).

python -m bench.coldstart --size three --evict everything --rounds 5 \
    --json docs/performance.json --plot docs/performance.svg
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench import baselines
from bench import scenario as scenarios
from bench.figures import COLUMNS, Rounds, grown_row, median, plot, summary, table
from bench.measure import EVICTIONS, Arm, measure, record_start, warm_libraries
from bench.scenario import Scenario
from tests.support.comfy import free_port

OUT = Path(__file__).resolve().parent / "out"
SIZES = {
    "small": scenarios.small,
    "three": scenarios.three_sd15,
    "sd15": scenarios.random_sd15,
    "sdxl": scenarios.random_sdxl,
}
ARMS = {
    "alone": Arm("ComfyUI alone"),
    "elsewhere": Arm("loaders called in another process first", loaders_first=True),
    "warm-up": Arm("ComfyUI, then a warm-up prompt by a client", warm_up=True),
    "no-prefetch": Arm("Comfy Preload, prefetch off", settings="when: startup\nprefetch: {enabled: false}"),
    "no-libraries": Arm("Comfy Preload, models only", settings="when: startup\nprefetch: {libraries: false}"),
    "no-record": Arm("Comfy Preload, without a record", settings="when: startup", recorded=False),
    "preload": Arm("Comfy Preload", settings="when: startup"),
    "preload-warm-up": Arm("Comfy Preload, with a warm-up", settings="when: startup", workflow=True),
}
SHOWN = ("listening", "ready", "first_image", "first", "steady", "after_another")
GROW = ((1, 12), (2, 12), (4, 12), (8, 12), (1, 7), (1, 15), (1, 19), (1, 24))
"""(models, depth): 0.1 GB at depth 7, 0.5 at 12, 1 at 15, 2 at 19, 4 at 24."""


def run(scenario: Scenario, arms: Sequence[str], *, rounds: int, evicted: str, cpu: bool) -> Rounds:
    """Run every arm once in each round, so that all of them see the same load on the machine."""
    port = free_port()
    record = record_start(OUT / "startup.trace", cpu=cpu)
    found: Rounds = {arm: [] for arm in arms}
    for number in range(1, rounds + 1):
        for arm in arms:
            figures = measure(scenario, ARMS[arm], port=port, cpu=cpu, evicted=evicted, record=record)
            found[arm].append(figures)
            seconds = ", ".join(
                f"{name} {value:.2f}" for name in SHOWN if (value := getattr(figures, name)) is not None
            )
            _say(f"{scenario.title}, {evicted} evicted: round {number}/{rounds}: {arm}: {seconds}")
    return found


def machine_limits(scenario: Scenario, rounds: int, *, cpu: bool) -> dict[str, float | None]:
    """Return median seconds of what no start can do without, and of the prefetch beside them.

    `imports`: start to listening of ComfyUI alone, everything cached.
    """
    found: dict[str, list[float | None]] = {}
    port = free_port()
    warm_libraries(port, cpu=cpu)
    for _ in range(rounds):
        for name, seconds in (
            ("imports", warm_libraries(port, cpu=cpu)),
            ("raw read", baselines.raw_read(scenario)),
            ("prefetch alone", baselines.prefetch(scenario)),
            ("cached read", baselines.cached_read(scenario)),
            ("memory copy", baselines.memory_copy(scenario.bytes)),
        ):
            found.setdefault(name, []).append(seconds)
    return {name: median(values) for name, values in found.items()}


def bench(scenario: Scenario, evicted: str, options: argparse.Namespace) -> dict[str, Any]:
    """Measure one scenario after one eviction, and show it."""
    cpu = not options.gpu
    floor = machine_limits(scenario, options.rounds, cpu=cpu)
    arms = options.arm or [name for name in ARMS if name != "no-prefetch"]
    found = run(scenario, arms, rounds=options.rounds, evicted=evicted, cpu=cpu)
    titles = {arm: ARMS[arm].title for arm in arms}
    result = summary(
        scenario.title, scenario.bytes, evicted=evicted, titles=titles, found=found, limits=floor
    )
    print(f"\n{result['title']}: {evicted} evicted\n\n{table(result)}\n")
    print(json.dumps(result["ratios"] | result["floor"] | result["limits"], indent=1) + "\n", flush=True)
    return result


def grow() -> list[dict[str, Any]]:
    """Measure one start without and one with the plugin, for each number of models and each size."""
    rows: list[dict[str, Any]] = []
    for count, depth in GROW:
        scenario = scenarios.several(OUT, count, depth)
        found = run(scenario, ["alone", "preload"], rounds=1, evicted="models", cpu=True)
        titles = {arm: ARMS[arm].title for arm in found}
        result = summary(
            scenario.title, scenario.bytes, evicted="models", titles=titles, found=found, limits={}
        )
        rows.append({"count": count, **result})
    return rows


def machine() -> dict[str, Any]:
    """Return a description of the machine."""
    usage = shutil.disk_usage(OUT)
    return {
        "system": platform.platform(),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "memory": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "disk": usage.total,
    }


def _say(text: str) -> None:
    print(f"bench: {text}", flush=True)


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Cold starts of ComfyUI, several ways in turns.")
    parser.add_argument(
        "--size", action="append", choices=list(SIZES), help="models; may be repeated (default: three)"
    )
    parser.add_argument(
        "--evict",
        action="append",
        choices=list(EVICTIONS),
        help="what is not in the page cache, one table each (default: everything, then models)",
    )
    parser.add_argument("--arm", action="append", choices=list(ARMS), help="may be repeated (default: all)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--grow", action="store_true", help="also 1 to 8 models, and 0.1 to 4 GB, once each")
    parser.add_argument("--gpu", action="store_true", help="let ComfyUI use its GPU (default: --cpu)")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="an SVG; needs matplotlib")
    options = parser.parse_args()
    OUT.mkdir(exist_ok=True)
    results = [
        bench(SIZES[size](OUT), evicted, options)
        for size in options.size or ["three"]
        for evicted in options.evict or ["everything", "models"]
    ]
    grown = grow() if options.grow else []
    if grown:
        head = "models | alone: first prompt | ours: ready after listening alone | ours: first prompt"
        head += " | ours: steady | alone: first image | ours: first image"
        print("\n".join([f"| {head} |", "|---|---|---|---|---|---|---|", *map(grown_row, grown)]))
    if options.json:
        content = {"machine": machine(), "columns": COLUMNS, "results": results, "grown": grown}
        options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    if options.plot:
        plot(results, options.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
