"""Measure how fast `/ready` answers while models load, and whether requests slow loading down.

python -m bench.probes --rounds 5 --rate 200
"""

from __future__ import annotations

import argparse
import http.client
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

from bench import scenario as scenarios
from bench.coldstart import OUT
from tests.support.comfy import ComfyServer
from tools.host import comfyui_path, comfyui_python

THREADS = 4


def start(scenario: scenarios.Scenario, rate: int) -> tuple[float, list[float]]:
    """Return the seconds of loading and of each response meanwhile.

    `rate` 0: one request every half second.
    """
    scenario.evict()
    with tempfile.TemporaryDirectory(prefix="preload-bench-") as base:
        server = ComfyServer(
            Path(base),
            host=comfyui_path(),
            python=comfyui_python(),
            # no prefetch: loading takes longer, so there is more time to measure
            preload=f"when: background\nprefetch: {{enabled: false}}\n{scenario.preload}",
            models=scenario.models,
        )
        latencies: list[float] = []
        over = threading.Event()
        with server:
            server.wait_listening(300)
            askers = [
                threading.Thread(target=_ask, args=(server.port, rate / THREADS, latencies, over))
                for _ in range(THREADS)
            ]
            for asker in askers if rate else ():
                asker.start()
            server.wait(
                lambda: server.get("/ready").json["status"] != "loading", "loaded", deadline=300, every=0.5
            )
            over.set()
            for asker in askers if rate else ():
                asker.join()
            return server.get("/preload").json["progress"]["seconds"], latencies


def _ask(port: int, rate: float, latencies: list[float], over: threading.Event) -> None:
    """Send requests at a fixed rate over one connection; a late response delays the next request.

    Only responses with the status `loading` count.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port)
    due = time.perf_counter()
    while not over.wait(max(0.0, due - time.perf_counter())):
        began = time.perf_counter()
        connection.request("GET", "/ready")
        answer = connection.getresponse()
        answer.read()
        if answer.status == http.client.SERVICE_UNAVAILABLE:
            latencies.append(time.perf_counter() - began)
        due += 1 / rate


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Probe latency while loading in the background.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rate", type=int, default=200, help="requests per second")
    options = parser.parse_args()
    OUT.mkdir(exist_ok=True)
    scenario = scenarios.random_sd15(OUT)
    quiet: list[float] = []
    asked: list[float] = []
    latencies: list[float] = []
    for number in range(options.rounds):
        quiet.append(start(scenario, 0)[0])
        seconds, answers = start(scenario, options.rate)
        asked.append(seconds)
        latencies += answers
        print(
            f"bench: round {number + 1}: loading {quiet[-1]:.2f} s, asked {asked[-1]:.2f} s, {len(answers)} "
            "answers",
            flush=True,
        )
    cuts = statistics.quantiles(latencies, n=100)
    print(f"responses: {len(latencies)}, median {cuts[49] * 1e3:.1f} ms, p99 {cuts[98] * 1e3:.1f} ms")
    print(
        "loading, with / without requests, medians: "
        f"{statistics.median(asked) / statistics.median(quiet):.3f}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
