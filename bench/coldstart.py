r"""Measure cold starts, six methods interleaved: the figures of docs/performance.md (`make bench`).

python -m bench.coldstart --rounds 5 --size small --size sd15 \
    --json docs/performance.json --plot docs/performance.svg
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench import limits
from bench import scenario as scenarios
from bench.measure import Arm, Figures, measure, raw_read_beside_imports
from bench.scenario import Scenario
from tests.support.comfy import free_port
from tools.host import comfyui_path, comfyui_python

OUT = Path(__file__).resolve().parent / "out"
ARMS = {
    "alone": Arm("ComfyUI alone"),
    "elsewhere": Arm("loaders called in another process first", loaders_first=True),
    "warm-up": Arm("ComfyUI, then a warm-up prompt by a client", warm_up=True),
    "no-prefetch": Arm("Comfy Preload, prefetch off", settings="prefetch: {enabled: false}"),
    "preload": Arm("Comfy Preload", settings="when: startup"),
    "preload-warm-up": Arm("Comfy Preload, with a warm-up", settings="when: startup", workflow=True),
}
SHOWN = ("listening", "ready", "first_image", "first", "steady", "after_another")
COLUMNS = {
    "listening": "listening",
    "ready": "ready",
    "first_image": "first image",
    "first": "first prompt",
    "steady": "steady",
    "after_another": "after another workflow",
    "peak_bytes": "peak, GB",
    "read_bytes": "read, GB",
}

GROW = ((1, 12), (2, 12), (4, 12), (8, 12), (1, 7), (1, 15), (1, 19), (1, 24))
"""(models, depth): 0.1 GB at depth 7, 0.5 at 12, 1 at 15, 2 at 19, 4 at 24."""
GROWN_HEAD = [
    (
        "| models | alone: first prompt | ours: ready after listening alone | ours: first prompt | ours: "
        "steady "
        "| alone: first image | ours: first image |"
    ),
    "|---|---|---|---|---|---|---|",
]

Rounds = dict[str, list[Figures]]


def run(scenario: Scenario, arms: Sequence[str], *, rounds: int, cold: Sequence[Path], cpu: bool) -> Rounds:
    """Run every arm once in each round, so that all of them see the same load on the machine."""
    port = free_port()
    found: Rounds = {arm: [] for arm in arms}
    for number in range(1, rounds + 1):
        for arm in arms:
            figures = measure(scenario, ARMS[arm], port=port, cpu=cpu, cold=cold)
            found[arm].append(figures)
            seconds = ", ".join(
                f"{name} {value:.2f}" for name in SHOWN if (value := getattr(figures, name)) is not None
            )
            _say(f"{scenario.title}: round {number}/{rounds}: {arm}: {seconds}")
    return found


def summary(scenario: Scenario, found: Rounds) -> dict[str, Any]:
    """Return medians and ranges, the limits of the machine, and the ratios to the targets."""
    medians = {
        arm: {name: _median([getattr(f, name) for f in rows]) for name in COLUMNS}
        for arm, rows in found.items()
    }
    return {
        "title": scenario.title,
        "bytes": scenario.bytes,
        "medians": medians,
        "rounds": {arm: [asdict(figures) for figures in rows] for arm, rows in found.items()},
        "ratios": _ratios(medians),
    }


def _ratios(medians: dict[str, dict[str, Any]]) -> dict[str, float]:
    ours, alone = medians.get("preload"), medians.get("alone")
    if not ours or not alone:
        return {}
    ratios = {
        "first image: ours / alone": ours["first_image"] / alone["first_image"],
        "(ours ready - alone listening) / alone first prompt": (ours["ready"] - alone["listening"])
        / alone["first"],
        "ours: first / steady": ours["first"] / ours["steady"],
        "ours: after another workflow / steady": ours["after_another"] / ours["steady"],
        "alone: first / steady": alone["first"] / alone["steady"],
        "alone: after another workflow / steady": alone["after_another"] / alone["steady"],
    }
    if ours["peak_bytes"] and alone["peak_bytes"]:
        ratios["peak memory: ours / alone"] = ours["peak_bytes"] / alone["peak_bytes"]
    if warmed := medians.get("preload-warm-up"):
        ratios["warmed: first / steady"] = warmed["first"] / warmed["steady"]
        ratios["warmed: first image / alone"] = warmed["first_image"] / alone["first_image"]
    if "elsewhere" in medians:
        ratios["first image: ours / loaders elsewhere"] = (
            ours["first_image"] / medians["elsewhere"]["first_image"]
        )
    return {name: round(value, 3) for name, value in ratios.items()}


def machine_limits(
    scenario: Scenario, rounds: int, cold: Sequence[Path], *, cpu: bool
) -> dict[str, float | None]:
    """Return median seconds for the scenario's bytes: the lower bounds for any loader, and the prefetch."""
    found: dict[str, list[float | None]] = {}
    for _ in range(rounds):
        for name, seconds in (
            ("raw read", limits.raw_read(scenario)),
            ("prefetch alone", limits.prefetch(scenario)),
            ("raw read beside imports", raw_read_beside_imports(scenario, cold, cpu=cpu)),
            ("cached read", limits.cached_read(scenario)),
            ("memory copy", limits.memory_copy(scenario.bytes)),
        ):
            found.setdefault(name, []).append(seconds)
    return {name: _median(values) for name, values in found.items()}


def _prefetch_ratios(result: dict[str, Any]) -> dict[str, float]:
    """Return the speed of the prefetch, alone and during imports, relative to reading past the page cache."""
    limit = result["limits"]
    if not limit["raw read"]:
        return {}
    ratios = {"prefetch alone / raw read": limit["raw read"] / limit["prefetch alone"]}
    if rows := result["rounds"].get("preload"):
        rate = statistics.median(row["prefetch"]["gb_per_second"] for row in rows) * 1e9
        ratios["prefetch beside imports / raw read"] = rate * limit["raw read"] / result["bytes"]
        ratios["prefetch beside imports / raw read beside imports"] = (
            rate * limit["raw read beside imports"] / result["bytes"]
        )
    return {name: round(value, 3) for name, value in ratios.items()}


def table(result: dict[str, Any]) -> str:
    """Return a Markdown table: median, minimum and maximum of the rounds.

    Seconds, except for the last two columns.
    """
    lines = [f"| | {' | '.join(COLUMNS.values())} |", f"|---|{'---|' * len(COLUMNS)}"]
    for arm, rows in result["rounds"].items():
        cells = (
            _cell([row[name] for row in rows], 1e9 if name.endswith("_bytes") else 1.0) for name in COLUMNS
        )
        lines.append(f"| {ARMS[arm].title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(values: Sequence[float | None], unit: float) -> str:
    known = sorted(value / unit for value in values if value is not None)
    return f"**{statistics.median(known):.2f}** ({known[0]:.2f} to {known[-1]:.2f})" if known else "-"


def _grown(count: int, depth: int) -> dict[str, Any]:
    """Measure one start without and one with the plugin, for a number of models of one size."""
    scenario = scenarios.several(OUT, count, depth)
    found = run(scenario, ["alone", "preload"], rounds=1, cold=[], cpu=True)
    return {"count": count, "bytes": scenario.bytes, **summary(scenario, found)}


def _grown_row(row: dict[str, Any]) -> str:
    alone, ours = row["medians"]["alone"], row["medians"]["preload"]
    extra = ours["ready"] - alone["listening"]
    cells = (alone["first"], extra, ours["first"], ours["steady"], alone["first_image"], ours["first_image"])
    return f"| {row['title']} | {' | '.join(f'{cell:.2f}' for cell in cells)} |"


def plot(results: Sequence[dict[str, Any]], file: Path) -> None:
    """Plot start to first image by arm: until it listens, until it is ready, and the first prompt."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(len(results), 1, figsize=(9, 2.6 * len(results)), squeeze=False)
    for axis, result in zip(axes[:, 0], results, strict=True):
        arms = list(result["medians"])
        rows = [result["medians"][arm] for arm in arms]
        axis.barh(
            [ARMS[a].title for a in arms],
            [r["first_image"] for r in rows],
            color="#d8743c",
            label="first prompt",
        )
        axis.barh(
            [ARMS[a].title for a in arms],
            [r["ready"] or r["listening"] for r in rows],
            color="#4a7db5",
            label="until ready",
        )
        axis.invert_yaxis()
        axis.set_title(f"{result['title']}, {result['bytes'] / 1e9:.2f} GB", loc="left", fontsize=10)
        axis.set_xlabel("seconds from the start of the process, median")
        axis.legend(loc="lower right", fontsize=8)
    figure.tight_layout()
    figure.savefig(file)


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


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def _say(text: str) -> None:
    print(f"bench: {text}", flush=True)


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Cold starts of ComfyUI, six ways.")
    parser.add_argument(
        "--size", action="append", choices=["small", "sd15"], help="models; may be given twice (default sd15)"
    )
    parser.add_argument(
        "--arm", action="append", choices=list(ARMS), help="may be given several times (default: all)"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--cold-libraries",
        action="store_true",
        help="evict Python's libraries and ComfyUI from the cache too",
    )
    parser.add_argument("--grow", action="store_true", help="also 1 to 8 models, and 0.1 to 4 GB, once each")
    parser.add_argument("--gpu", action="store_true", help="let ComfyUI use its GPU (default: --cpu)")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="an SVG; needs matplotlib")
    options = parser.parse_args()
    OUT.mkdir(exist_ok=True)
    chosen = {"small": scenarios.small, "sd15": scenarios.random_sd15}
    cold = [comfyui_path(), comfyui_python().parents[1]] if options.cold_libraries else []
    results: list[dict[str, Any]] = []
    for size in options.size or ["sd15"]:
        scenario = chosen[size](OUT)
        found = run(
            scenario, options.arm or list(ARMS), rounds=options.rounds, cold=cold, cpu=not options.gpu
        )
        result = summary(scenario, found)
        result["limits"] = machine_limits(scenario, options.rounds, cold, cpu=not options.gpu)
        result["ratios"] |= _prefetch_ratios(result)
        results.append(result)
        print(
            f"\n{result['title']}\n\n{table(result)}\n\n"
            f"{json.dumps(result['ratios'] | result['limits'], indent=1)}\n"
        )
    grown = [_grown(count, depth) for count, depth in GROW] if options.grow else []
    if grown:
        print("\n".join(GROWN_HEAD + [_grown_row(row) for row in grown]))
    if options.json:
        content = {
            "machine": machine(),
            "cold libraries": options.cold_libraries,
            "results": results,
            "grown": grown,
        }
        options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    if options.plot:
        plot(results, options.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
