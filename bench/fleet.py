"""Simulate a fleet: lazy loading, a client's warm-up, Comfy Preload without and with locate, and Ray Serve.

    python -m bench.fleet              # the simulation: docs/scale.json and docs/scale.svg
    python -m bench.fleet --real       # also check one point with real processes

The seconds of one process are TIMES, medians of `bench.coldstart --size sd15 --evict models`.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from bench.fleet_model import Outcome, Policy, Shape, Simulation, Times, poisson

DOCS = Path(__file__).resolve().parents[1] / "docs"
SEEDS = 20
BURST = (300.0, 360.0)
LOSS = 600.0
END = 900.0
RATES = ((BURST[0], 2.5), (BURST[1], 6.0), (END, 2.5))
SHAPE = Shape(new_node_at=BURST[0] + 20, loss_at=LOSS)
SLOW = 5.0
"""Seconds after which a request counts as slow."""


TIMES = Times(listening=5.71, preload=2.43, image=1.88, cold=5.71, reload=2.79)
"""One process, a checkpoint of the size of Stable Diffusion 1.5, two processors; see docs/scale.md."""


def percentile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def figures(outcome: Outcome) -> dict[str, float]:
    return {
        "p50": percentile(outcome.seconds, 0.5),
        "p95": percentile(outcome.seconds, 0.95),
        "over_5s": sum(s > SLOW for s in outcome.seconds) / len(outcome.seconds),
        "gpu_seconds_per_image": outcome.busy / len(outcome.seconds),
        "gpu_seconds_loading": outcome.loading,
    }


def simulate(
    one: Times, shape: Shape, rates: Sequence[tuple[float, float]], seeds: int = SEEDS
) -> dict[str, Any]:
    """Run every policy with the same requests. Return median, minimum and maximum of all seeds."""
    found: dict[str, Any] = {}
    for policy in Policy:
        runs: list[dict[str, float]] = []
        for seed in range(seeds):
            arrivals = poisson(shape, rates, seed=seed)
            runs.append(figures(Simulation(policy, one, shape, arrivals, seed=seed).run()))
        found[policy.value] = {
            key: [round(f([run[key] for run in runs]), 3) for f in (statistics.median, min, max)]
            for key in runs[0]
        }
    return found


def over_time(one: Times, step: float = 10.0) -> dict[str, list[float]]:
    """Return the p95 of the requests that arrived in each step, over all seeds."""
    found: dict[str, list[float]] = {}
    for policy in Policy:
        bins: list[list[float]] = [[] for _ in range(int(END / step))]
        for seed in range(SEEDS):
            arrivals = poisson(SHAPE, RATES, seed=seed)
            outcome = Simulation(policy, one, SHAPE, arrivals, seed=seed).run()
            for arrival, seconds in zip(arrivals, outcome.seconds, strict=True):
                bins[int(arrival.at / step)].append(seconds)
        found[policy.value] = [round(percentile(values, 0.95), 2) for values in bins]
    return found


def by_models(one: Times) -> dict[int, dict[str, Any]]:
    """Run with different numbers of models: the more there are, the fewer fit on each device."""
    calm = replace(SHAPE, new_node_at=None, loss_at=None)
    return {n: simulate(one, replace(calm, models=n), ((END, 2.5),), seeds=5) for n in (2, 4, 6, 8, 12)}


def hundred(one: Times) -> dict[str, Any]:
    """A hundred replicas with the same load each, burst and loss.

    25 nodes of four, and four times as many models.
    """
    large = replace(SHAPE, replicas=100, nodes=25, models=24)
    return simulate(one, large, [(until, rate * 100 / SHAPE.replicas) for until, rate in RATES], seeds=3)


def plot(series: dict[str, list[float]], models: dict[int, dict[str, Any]], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "fleet"
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    for (name, values), color in zip(
        series.items(), ("tab:gray", "tab:orange", "tab:blue", "tab:green", "tab:purple"), strict=True
    ):
        left.plot([10 * i + 5 for i in range(len(values))], values, label=name, color=color)
        right.plot(list(models), [models[n][name]["p95"][0] for n in models], "o-", label=name, color=color)
    left.axvspan(*BURST, alpha=0.1, color="black")
    left.axvline(LOSS, color="black", linestyle=":")
    left.set(
        xlabel="seconds; grey: burst, dotted: a node is lost",
        ylabel="request to image, 95th percentile (s)",
        ylim=(0, None),
    )
    right.set(
        xlabel="models in use; two fit on a device", ylabel="95th percentile (s), no burst", ylim=(0, None)
    )
    left.legend(fontsize=8)
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--real", action="store_true", help="also check one point with real processes (two minutes)"
    )
    arguments = parser.parse_args()
    file = DOCS / "scale.json"
    one = TIMES
    before: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    real = before.get("real")
    if arguments.real:
        from bench.fleet_real import check

        real = check()
    series, models = over_time(one), by_models(one)
    result: dict[str, Any] = {"times": asdict(one), "fleet": asdict(SHAPE), "rates": RATES, "seeds": SEEDS}
    result |= {
        "results": simulate(one, SHAPE, RATES),
        "p95_by_models": {n: {k: v["p95"] for k, v in m.items()} for n, m in models.items()},
        "hundred_replicas": hundred(one),
    }
    result |= {"real": real, "ray": before.get("ray")}
    file.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    plot(series, models, DOCS / "scale.svg")
    for name, row in result["results"].items():
        print(f"{name:28}", *(f"{key} {value[0]:.2f}" for key, value in row.items()))
    print("real:", json.dumps(result["real"]))


if __name__ == "__main__":
    main()
