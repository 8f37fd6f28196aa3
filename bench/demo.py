"""Show what the plugin does: the same ComfyUI without and with it, side by side.

make demo
python -m bench.demo --rounds 3 --json figures.json
python -m bench.demo --checkpoint ~/models/sd_xl_base_1.0.safetensors --gpu
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from bench import scenario as scenarios
from bench.measure import Arm, Figures, measure, warm_libraries
from bench.scenario import Scenario
from tests.support.comfy import free_port
from tools.host import SetupError, comfyui_path

OUT = Path(__file__).resolve().parent / "out"
Results = tuple[list[Figures], ...]
"""For each column, one row per round."""
COLUMNS = ("ComfyUI alone", "with Comfy Preload", "and a warm-up")

# Label, which figure of a round to show, and its format.
ROWS: tuple[tuple[str, Callable[[Figures], float | None], str], ...] = (
    ("start to listening", lambda f: f.listening, "{:.1f} s"),
    ("start to ready", lambda f: f.ready, "{:.1f} s"),
    ("start to first image", lambda f: f.first_image, "{:.1f} s"),
    ("first prompt", lambda f: f.first, "{:.2f} s"),
    ("steady prompt", lambda f: f.steady, "{:.2f} s"),
    ("prompt after another workflow", lambda f: f.after_another, "{:.2f} s"),
    ("first / steady", lambda f: f.first_to_steady, "{:.1f} x"),
    ("after another / steady", lambda f: f.after_to_steady, "{:.1f} x"),
    ("peak memory", lambda f: f.peak_bytes / 1e9 if f.peak_bytes else None, "{:.2f} GB"),
)


def run(scenario: Scenario, *, rounds: int, when: str, port: int, args: Sequence[str], cpu: bool) -> Results:
    """Measure ComfyUI alone, with the plugin and with a warm-up, interleaved: all see the same load."""
    if hasattr(os, "getloadavg") and os.getloadavg()[0] > 1:
        _say("the machine is busy with other work: these figures will not be reliable")
    _say("one start without models, so that Python's libraries are equally cached for all")
    warm_libraries(port, cpu=cpu)
    results: Results = ([], [], [])
    settings = (None, f"when: {when}", f"when: {when}")
    arms = [
        Arm(*given, workflow=column == 2) for column, given in enumerate(zip(COLUMNS, settings, strict=True))
    ]
    for number in range(1, rounds + 1):
        for arm, rows in zip(arms, results, strict=True):
            _say(f"round {number}/{rounds}: {arm.title}")
            figures = measure(scenario, arm, port=port, args=args, cpu=cpu)
            rows.append(figures)
            _say(
                "  /ready: "
                + " -> ".join(f"{change.answer} ({change.seconds:.1f} s)" for change in figures.timeline)
            )
    return results


def table(results: Results) -> str:
    """Return the figures side by side; medians if there was more than one round."""
    lines: list[tuple[str, ...]] = [("", *COLUMNS)]
    for label, value, form in ROWS:
        cells = [_median([value(figures) for figures in column]) for column in results]
        lines.append((label, *("-" if cell is None else form.format(cell) for cell in cells)))
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        f"{line[0]:<{widths[0]}}  "
        + "  ".join(f"{c:>{w}}" for c, w in zip(line[1:], widths[1:], strict=True))
        for line in lines
    )


def report(scenario: Scenario, results: Results) -> dict[str, object]:
    """Return all measurements, for programs."""
    return {
        "scenario": scenario.title,
        "bytes": scenario.bytes,
        "machine": {
            "system": platform.platform(),
            "processors": os.cpu_count(),
            "python": platform.python_version(),
        },
        "comfyui": _comfyui_version(),
        "alone": [asdict(figures) for figures in results[0]],
        "plugin": [asdict(figures) for figures in results[1]],
        "warmed": [asdict(figures) for figures in results[2]],
    }


def _median(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def _comfyui_version() -> str:
    text = (comfyui_path() / "comfyui_version.py").read_text(encoding="utf-8")
    return text.rpartition("=")[2].strip().strip("\"'")


def _say(text: str) -> None:
    print(f"demo: {text}", flush=True)


def _scenario(options: argparse.Namespace) -> Scenario:
    if options.checkpoint:
        return scenarios.real_checkpoint(OUT, options.checkpoint)
    return scenarios.small(OUT) if options.size == "small" else scenarios.random_sd15(OUT)


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="ComfyUI without and with Comfy Preload, side by side.")
    parser.add_argument(
        "--size", choices=["small", "sd15"], default="sd15", help="generated models (default sd15: 2.1 GB)"
    )
    parser.add_argument(
        "--checkpoint", type=Path, metavar="FILE", help="use your own SD1.5 or SDXL checkpoint instead"
    )
    parser.add_argument(
        "--rounds", type=int, default=1, help="number of starts of each kind; the table shows medians"
    )
    parser.add_argument(
        "--when", choices=["startup", "background"], default="startup", help="as in preload.yaml"
    )
    parser.add_argument("--port", type=int, help="default: a free one, the same for all starts")
    parser.add_argument("--gpu", action="store_true", help="let ComfyUI use its GPU (default: --cpu)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to this file")
    parser.add_argument("comfyui", nargs="*", metavar="-- ARGUMENT", help="more arguments for ComfyUI")
    options = parser.parse_args()
    try:
        version = _comfyui_version()
    except SetupError as error:
        parser.error(str(error))
    scenario = _scenario(options)
    _say(
        f"{scenario.title}, {scenario.bytes / 1e9:.2f} GB, ComfyUI {version}, "
        f"{'GPU' if options.gpu else 'CPU'}"
    )
    results = run(
        scenario,
        rounds=options.rounds,
        when=options.when,
        port=options.port or free_port(),
        args=options.comfyui,
        cpu=not options.gpu,
    )
    print(f"\n{table(results)}\n")
    if options.json:
        options.json.write_text(json.dumps(report(scenario, results), indent=2) + "\n", encoding="utf-8")
        _say(f"figures written to {options.json}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
