"""Measure on an accelerator.

The demo's comparison without --cpu, and the device's own memory beside what is reported.

make gpu                                      # generated models, needs no network
make gpu ARGS="--checkpoint ~/models/sd_xl_base_1.0.safetensors --rounds 3"
make gpu ARGS="--simulated --size small"      # on the simulated device: tries the script, measures nothing

COMFYUI_PATH and COMFYUI_PYTHON name the installed ComfyUI. Each way to start runs with dynamic VRAM on and
off where that ComfyUI has it. Writes bench/out/gpu.json, and a table to the terminal.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench import scenario as scenarios
from bench.measure import DEADLINE, STEADY, WORKFLOW
from bench.scenario import Scenario
from tests.support import device, prompts
from tests.support.comfy import ComfyServer
from tools.host import comfyui_path, comfyui_python

OUT = Path(__file__).resolve().parent / "out"
GAUGE = '''
"""What the allocators of this process hold, for bench/gpu.py."""
import sys
import comfy.model_management as mm
import torch
from aiohttp import web
from server import PromptServer

@PromptServer.instance.routes.get("/bench/device")
async def device(request):
    at = mm.get_torch_device()
    backend = getattr(torch, at.type, None)
    held = backend.memory_allocated(at) if hasattr(backend, "memory_allocated") else 0
    if at.type == "cuda" and "comfy_aimdo.control" in sys.modules:  # its pages are not torch's
        held += sys.modules["comfy_aimdo.control"].get_total_vram_usage()
    counters = sys.modules.get("torch_npu")
    read = getattr(counters, "read", None)
    name = mm.get_torch_device_name(at)
    return web.json_response({"name": name, "held": held, "copied": read and read("h2d_bytes")})

NODE_CLASS_MAPPINGS = {}
'''


@dataclass(frozen=True)
class Arm:
    """One way to start."""

    title: str
    plugin: bool = True
    warm_up: bool = False
    dynamic: bool = False


@dataclass(frozen=True)
class Reading:
    """Bytes after a step; `said` and `copied` are None where nobody reports or counts them."""

    held: int
    said: int | None
    copied: int | None


@dataclass(frozen=True)
class Figures:
    """One start: seconds, and the device's memory after each step."""

    listening: float
    ready: float | None
    first: float
    steady: float
    after_another: float
    memory: dict[str, Reading]
    card: str


def arms() -> list[Arm]:
    """Return every way to start that this ComfyUI has."""
    found: list[Arm] = []
    for dynamic in [False, True] if device.aimdo_is_asked_for() else [False]:
        end = ", dynamic VRAM" if dynamic else ""
        found += [
            Arm(f"alone{end}", plugin=False, dynamic=dynamic),
            Arm(f"plugin{end}", dynamic=dynamic),
            Arm(f"plugin, warm-up{end}", warm_up=True, dynamic=dynamic),
        ]
    return found


def measure(scenario: Scenario, arm: Arm, *, simulated: bool, args: Sequence[str]) -> Figures:
    """Start ComfyUI with model files that are not in the page cache, use it, stop it."""
    scenario.evict()
    with tempfile.TemporaryDirectory(prefix="preload-gpu-") as folder:
        base = Path(folder)
        (base / "warm-up.json").write_text(json.dumps(scenario.prompt(0)), encoding="utf-8")
        given: dict[str, Any] = {"cpu": False, "args": [*args]}
        if simulated:
            given = device.options(base, dynamic=arm.dynamic, args=args)
        elif device.aimdo_is_asked_for():
            given["args"] += ["--enable-dynamic-vram" if arm.dynamic else "--disable-dynamic-vram"]
        server = ComfyServer(
            base,
            host=comfyui_path(),
            python=comfyui_python(),
            plugin=arm.plugin,
            preload=scenario.preload + (WORKFLOW if arm.warm_up else "") if arm.plugin else None,
            models=scenario.models,
            custom_nodes={"gauge": GAUGE},
            **given,
        )
        begun = time.monotonic()
        with server:
            return _use(server, scenario, arm, begun)


def _use(server: ComfyServer, scenario: Scenario, arm: Arm, begun: float) -> Figures:
    memory: dict[str, Reading] = {}
    numbers = iter(range(1, 100))

    def step(name: str) -> float:
        began = time.monotonic()
        server.result(server.queue(scenario.prompt(next(numbers))), DEADLINE, every=0.005)
        seconds = time.monotonic() - began
        memory[name] = _read(server, arm)
        return seconds

    server.wait_listening(DEADLINE)
    listening = time.monotonic() - begun
    if arm.plugin:
        server.wait_ready(DEADLINE)
    ready = time.monotonic() - begun
    memory["ready"] = _read(server, arm)
    first = step("first prompt")
    steady = statistics.median(step("steady prompt") for _ in range(STEADY))
    server.run(prompts.unrelated(), DEADLINE)
    after = step("after another workflow")
    card = str(server.get("/bench/device").json["name"])
    return Figures(listening, ready if arm.plugin else None, first, steady, after, memory, card)


def _read(server: ComfyServer, arm: Arm) -> Reading:
    answer = server.get("/bench/device").json
    said = None
    if arm.plugin:
        said = sum(m["bytes_on_device"] for m in server.get("/preload").json["models"]["items"])
    return Reading(answer["held"], said, answer["copied"])


def table(results: dict[str, list[Figures]]) -> str:
    """Return one line for each way to start; medians of its rounds, memory of the last."""
    head = ("", "ready s", "first s", "steady s", "after s", "held at ready", "reported", "copied by first")
    lines: list[tuple[str, ...]] = [head]
    for title, rounds in results.items():
        last = rounds[-1].memory
        seconds = [
            _median([f.ready for f in rounds]),
            *(_median([getattr(f, name) for f in rounds]) for name in ("first", "steady", "after_another")),
        ]
        at, then = last["ready"], last["first prompt"]
        copied = None if at.copied is None or then.copied is None else then.copied - at.copied
        sizes = [_megabytes(count) for count in (at.held, at.said, copied)]
        lines.append((title, *("-" if s is None else f"{s:.2f}" for s in seconds), *sizes))
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "  ".join(
            f"{c:<{w}}" if i == 0 else f"{c:>{w}}" for i, (c, w) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )


def _median(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def _megabytes(count: int | None) -> str:
    return "-" if count is None else f"{count / 1e6:.1f} MB"


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="ComfyUI without and with Comfy Preload, on an accelerator.")
    parser.add_argument("--size", choices=["small", "sd15", "large"], default="sd15", help="generated models")
    parser.add_argument("--checkpoint", type=Path, metavar="FILE", help="your own checkpoint instead")
    parser.add_argument("--rounds", type=int, default=1, help="number of starts of each kind")
    parser.add_argument("--simulated", action="store_true", help="on the simulated device of the tests")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", default=OUT / "gpu.json", help="where figures go"
    )
    parser.add_argument("comfyui", nargs="*", metavar="-- ARGUMENT", help="more arguments for ComfyUI")
    given = parser.parse_args()
    if given.checkpoint:
        scenario = scenarios.real_checkpoint(OUT, given.checkpoint)
    elif given.size == "large":
        scenario = scenarios.random_sdxl(OUT)
    else:
        scenario = scenarios.small(OUT) if given.size == "small" else scenarios.random_sd15(OUT)
    results: dict[str, list[Figures]] = {arm.title: [] for arm in arms()}
    for number in range(given.rounds):
        for arm in arms():
            print(f"gpu: round {number + 1}/{given.rounds}: {arm.title}", flush=True)
            results[arm.title].append(measure(scenario, arm, simulated=given.simulated, args=given.comfyui))
    card = next(iter(results.values()))[0].card
    print(f"\n{scenario.title}, {scenario.bytes / 1e9:.2f} GB, on {card}\n\n{table(results)}\n")
    figures = {title: [asdict(one) for one in rounds] for title, rounds in results.items()}
    given.json.parent.mkdir(parents=True, exist_ok=True)
    body = {"card": card, "scenario": scenario.title, "bytes": scenario.bytes, "arms": figures}
    given.json.write_text(json.dumps(body, indent=2) + "\n", encoding="utf-8")
    print(f"gpu: figures written to {given.json}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
