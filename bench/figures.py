"""What is made of the benchmark's figures: medians, ratios, the floor, a table, a plot."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.measure import Figures

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
Rounds = dict[str, list[Figures]]
"""By arm."""


def summary(
    title: str,
    size: int,
    *,
    evicted: str,
    titles: Mapping[str, str],
    found: Rounds,
    limits: Mapping[str, float | None],
) -> dict[str, Any]:
    """Return medians and all rounds, the ratios to the targets, and the limits of the machine.

    `size`: bytes of the models. `titles`: what each arm is called. `limits`: seconds.
    """
    medians = {
        arm: {name: median([getattr(f, name) for f in rows]) for name in COLUMNS}
        for arm, rows in found.items()
    }
    floor = _floor(medians, limits, size)
    return {
        "title": title,
        "bytes": size,
        "evicted": evicted,
        "titles": dict(titles),
        "medians": medians,
        "rounds": {arm: [asdict(figures) for figures in rows] for arm, rows in found.items()},
        "limits": dict(limits),
        "floor": floor,
        "ratios": _ratios(medians, limits),
    }


def _floor(
    medians: dict[str, dict[str, Any]], limits: Mapping[str, float | None], size: int
) -> dict[str, float]:
    """Return the seconds that no start to a first image can go below, of this machine and these models.

    Imports with everything cached and one steady prompt. To it comes the time to read all that ComfyUI alone
    reads until its first image, past the page cache: afterwards, or at the same time.
    """
    alone = medians.get("alone")
    best = min((row["steady"] for row in medians.values()), default=None)
    imports, raw = limits.get("imports"), limits.get("raw read")
    if not alone or best is None or imports is None:
        return {}
    found = {"floor: imports, cached, and a prompt": imports + best}
    if raw and alone["read_bytes"]:
        reading = raw * alone["read_bytes"] / size
        found["floor: reading all bytes"] = reading
        found["floor: the two added"] = imports + best + reading
        found["floor: the two at once"] = max(imports, reading) + best
    return {name: round(value, 2) for name, value in found.items()}


def _ratios(medians: dict[str, dict[str, Any]], limits: Mapping[str, float | None]) -> dict[str, float]:
    alone = medians.get("alone")
    if not alone:
        return {}
    ratios: dict[str, float] = {}
    imports = limits.get("imports")
    for arm, row in medians.items():
        if arm == "alone":
            continue
        ratios[f"first image: {arm} / alone"] = row["first_image"] / alone["first_image"]
        if imports is not None:
            left = alone["first_image"] - imports - alone["steady"]
            ratios[f"removable part: {arm} / alone"] = (row["first_image"] - imports - row["steady"]) / left
        if row["peak_bytes"] and alone["peak_bytes"]:
            ratios[f"peak memory: {arm} / alone"] = row["peak_bytes"] / alone["peak_bytes"]
        if arm == "elsewhere" and "preload" in medians:
            ours = medians["preload"]["first_image"]
            ratios["first image: preload / elsewhere"] = ours / row["first_image"]
    for arm, row in medians.items():
        ratios[f"first / steady: {arm}"] = row["first"] / row["steady"]
        ratios[f"after another workflow / steady: {arm}"] = row["after_another"] / row["steady"]
    if ours := medians.get("preload"):
        waits = ours["ready"] - alone["listening"]
        ratios["(ready - listening alone) / first prompt alone"] = waits / alone["first"]
    if limits.get("raw read") and limits.get("prefetch alone"):
        ratios["speed: prefetch / raw read"] = (limits["raw read"] or 0) / (limits["prefetch alone"] or 1)
    return {name: round(value, 3) for name, value in ratios.items()}


def table(result: Mapping[str, Any]) -> str:
    """Return a Markdown table: median, minimum and maximum of the rounds.

    Seconds, except for the last two columns.
    """
    lines = [f"| | {' | '.join(COLUMNS.values())} |", f"|---|{'---|' * len(COLUMNS)}"]
    for arm, rows in result["rounds"].items():
        cells = (
            _cell([row[name] for row in rows], 1e9 if name.endswith("_bytes") else 1.0) for name in COLUMNS
        )
        lines.append(f"| {result['titles'][arm]} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(values: Sequence[float | None], unit: float) -> str:
    known = sorted(value / unit for value in values if value is not None)
    return f"**{statistics.median(known):.2f}** ({known[0]:.2f} to {known[-1]:.2f})" if known else "-"


def grown_row(row: Mapping[str, Any]) -> str:
    """Return the table's row for one number of models of one size."""
    alone, ours = row["medians"]["alone"], row["medians"]["preload"]
    extra = ours["ready"] - alone["listening"]
    cells = (alone["first"], extra, ours["first"], ours["steady"], alone["first_image"], ours["first_image"])
    return f"| {row['title']} | {' | '.join(f'{cell:.2f}' for cell in cells)} |"


def plot(results: Sequence[Mapping[str, Any]], file: Path) -> None:
    """Plot start to first image by arm: until it is ready, and the first prompt."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(len(results), 1, figsize=(9, 2.6 * len(results)), squeeze=False)
    for axis, result in zip(axes[:, 0], results, strict=True):
        titles = [result["titles"][arm] for arm in result["medians"]]
        rows = list(result["medians"].values())
        axis.barh(titles, [r["first_image"] for r in rows], color="#d8743c", label="first prompt")
        ready = [r["ready"] or r["listening"] for r in rows]
        axis.barh(titles, ready, color="#4a7db5", label="until ready")
        axis.invert_yaxis()
        title = f"{result['title']}, {result['bytes'] / 1e9:.2f} GB, {result['evicted']} evicted"
        axis.set_title(title, loc="left", fontsize=10)
        axis.set_xlabel("seconds from the start of the process, median")
        axis.legend(loc="lower right", fontsize=8)
    figure.tight_layout()
    figure.savefig(file)


def median(values: Sequence[float | None]) -> float | None:
    """Return the median of those that are known."""
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None
