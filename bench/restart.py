"""Measure a start on a fresh node, and the start after a crash there: docs/reliability.md, "After a crash".

python -m bench.restart --rounds 5

The first start finds nothing in the page cache: model, libraries and ComfyUI are evicted. Then the process is
killed and started again. Both run a warm-up with `verify: true`, and the plugin's own figures are printed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from bench import scenario as scenarios
from bench.measure import DEADLINE, ReadyWatch, evict_everything
from bench.scenario import Scenario
from tests.support.comfy import ComfyServer
from tools.host import comfyui_path, comfyui_python

OUT = Path(__file__).resolve().parent / "out"
SETTINGS = "{models}workflows:\n  - {{path: warm-up.json, warmup: true, verify: true}}\n"


@dataclass(frozen=True)
class Start:
    """One start. Seconds; what the plugin itself reports, but for `ready`."""

    ready: float
    """From the start of the process to /ready 200."""
    stages: dict[str, float]
    cached: int
    """Bytes of the model files that the prefetch found in the page cache."""
    warm_up: float
    first: float
    steady: float

    @property
    def ratio(self) -> float:
        """Return first ÷ steady."""
        return self.first / self.steady


def one_round(scenario: Scenario, *, cpu: bool) -> tuple[Start, Start]:
    """Start on a node without anything in its page cache, kill the process, start again."""
    evict_everything(scenario)
    with tempfile.TemporaryDirectory(prefix="preload-bench-") as base:
        settings = SETTINGS.format(models=scenario.preload)
        (Path(base) / "warm-up.json").write_text(json.dumps(scenario.prompt(0)), encoding="utf-8")
        server = ComfyServer(
            Path(base),
            host=comfyui_path(),
            python=comfyui_python(),
            preload=settings,
            models=scenario.models,
            cpu=cpu,
        )
        try:
            return _start(server), _start(server)
        finally:
            server.stop()


def _start(server: ComfyServer) -> Start:
    """Start it until it is ready, read the figures, and kill it."""
    begun = time.monotonic()
    server.start()
    with ReadyWatch(server, begun) as watch:
        server.wait(lambda: watch.ready is not None, "ready", deadline=DEADLINE, every=0.01)
    startup = server.get("/ready?stages").json["startup"]
    now = server.get("/preload").json
    (profile,) = now["warmups"][0]["profiles"]
    server.stop()
    return Start(
        ready=watch.ready or 0.0,
        stages=startup["seconds"],
        cached=now["prefetch"]["cached"],
        warm_up=profile["seconds"],
        first=profile["first"],
        steady=profile["steady"],
    )


def _print(title: str, ratios: list[float]) -> None:
    print(f"{title}: {', '.join(f'{r:.3f}' for r in ratios)}; median {statistics.median(ratios):.3f}")


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="The start after a crash ÷ the first start on the node.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--gpu", action="store_true", help="let ComfyUI use its GPU (default: --cpu)")
    options = parser.parse_args()
    OUT.mkdir(exist_ok=True)
    scenario = scenarios.random_sd15(OUT)
    rounds: list[tuple[Start, Start]] = []
    for number in range(options.rounds):
        rounds.append(one_round(scenario, cpu=not options.gpu))
        for name, start in zip(("first", "second"), rounds[-1], strict=True):
            print(f"round {number + 1}, {name}: {json.dumps(asdict(start))}", flush=True)
    _print("ready, second ÷ first", [second.ready / first.ready for first, second in rounds])
    _print("first ÷ steady, as the plugin reports it", [start.ratio for pair in rounds for start in pair])
    return 0


if __name__ == "__main__":
    sys.exit(main())
