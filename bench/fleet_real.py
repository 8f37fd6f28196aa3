"""Check one point of the simulation: three real ComfyUI processes, one Redis, a burst, one kill."""

from __future__ import annotations

import os
import random
import signal
import statistics
import tempfile
import threading
import time
import urllib.error
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from bench.fleet_model import Arrival, Policy, Shape, Simulation, Times, poisson
from tests.support import models as tiny
from tests.support import prompts
from tests.support.comfy import ComfyServer, free_port
from tests.support.redis_server import RedisServer
from tools.host import comfyui_path, comfyui_python

HELD = ((0, 1), (2, 0), (1, 2))
"""Models of each replica, placed as `Simulation` places them."""
SHAPE = Shape(replicas=3, nodes=3, models=3, capacity=2, skew=0.0, loss_at=20.0, replaced=False)
UTILIZATION = 0.5
SECONDS = 40.0
ROUNDS = 6
WAIT = 1.0
"""Seconds that a node of every prompt waits, instead of GPU work: three replicas share two processors here.
Seconds that a node of every prompt waits, instead of GPU work: three replicas share two processors here."""
NODE = """
import time

class WaitLatent:
    CATEGORY, FUNCTION, RETURN_TYPES = "bench", "wait", ("LATENT",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"samples": ("LATENT",), "seconds": ("FLOAT", {"default": 1.0})}}

    def wait(self, samples, seconds):
        time.sleep(seconds)
        return (samples,)

NODE_CLASS_MAPPINGS = {"WaitLatent": WaitLatent}
"""
FAILURES = (OSError, urllib.error.URLError, ConnectionError)


def check() -> dict[str, Any]:
    """Return measured and simulated results for the same requests at the same times."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fleet-")))
        servers = _start(stack, folder)
        _image(servers, 0, rounds=1)
        image = _image(servers, 1000, rounds=ROUNDS)
        arrivals = poisson(SHAPE, ((SECONDS, UTILIZATION * len(servers) / image),), seed=1)
        measured = _burst(servers, arrivals)
    one = Times(listening=0.0, preload=0.0, image=round(image, 3), cold=0.0, reload=0.0)
    runs = [Simulation(Policy.LOCATE, one, SHAPE, arrivals, seed=seed).run().seconds for seed in range(20)]
    return {
        "shape": asdict(SHAPE),
        "requests": len(arrivals),
        "image": one.image,
        "measured": _row(measured),
        "model": {key: round(statistics.median(_row(run)[key] for run in runs), 2) for key in _row(measured)},
    }


def _start(stack: ExitStack, folder: Path) -> list[ComfyServer]:
    for index in range(SHAPE.models):
        tiny.tiny_unet(folder / "models" / "diffusion_models" / f"m{index}.safetensors", seed=index)
    tiny.tiny_clip(folder / "models" / "text_encoders" / "clip_l.safetensors")
    redis = stack.enter_context(RedisServer(folder))
    servers: list[ComfyServer] = []
    for index, held in enumerate(HELD):
        port = free_port()
        lines = [f"  - unet: m{model}.safetensors" for model in held]
        registry = f"registry: {{redis: '{redis.url}', advertise: 'http://127.0.0.1:{port}'}}"
        settings = "\n".join(["models:", *lines, "  - {clip: clip_l.safetensors, type: sd3}", registry, ""])
        server = ComfyServer(
            folder / f"replica-{index}",
            host=comfyui_path(),
            python=comfyui_python(),
            preload=settings,
            models=folder / "models",
            custom_nodes={"wait": NODE},
            port=port,
        )
        servers.append(stack.enter_context(server))
    for server in servers:
        server.wait_ready()
    servers[0].wait(
        lambda: all(len(_locate(server, 0)) == 2 for server in servers), "in a fleet", deadline=30
    )
    return servers


def _image(servers: Sequence[ComfyServer], seed: int, *, rounds: int) -> float:
    """Return the seconds of a prompt while all replicas work: they share the processors."""
    found: list[float] = []

    def work(server: ComfyServer, model: int) -> None:
        for turn in range(rounds):
            began = time.perf_counter()
            server.run(_prompt(model, 10_000 + seed + turn))
            found.append(time.perf_counter() - began)

    threads = [
        threading.Thread(target=work, args=(s, held[0])) for s, held in zip(servers, HELD, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return statistics.mean(found)


def _burst(servers: Sequence[ComfyServer], arrivals: Sequence[Arrival]) -> list[float]:
    seconds = [0.0] * len(arrivals)
    began = time.monotonic()

    def user(index: int) -> None:
        _image_of(servers, arrivals[index], index)
        seconds[index] = time.monotonic() - began - arrivals[index].at

    def kill() -> None:
        pid = servers[0].pid
        if pid:
            os.kill(pid, signal.SIGKILL)  # ours, started above

    threads = [threading.Timer(one.at, user, (index,)) for index, one in enumerate(arrivals)]
    threads.append(threading.Timer(SHAPE.loss_at or 0.0, kill))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return seconds


def _image_of(servers: Sequence[ComfyServer], one: Arrival, seed: int) -> None:
    """Route one request as a gateway does, and send it again if its replica dies."""
    by_url = {server.url: server for server in servers}
    chance = random.Random(seed)  # noqa: S311 — a choice among equals
    asked = chance.choice(servers)
    while True:
        try:
            rows = _locate(asked, one.model)
        except FAILURES:  # a closed port fails at once
            asked = chance.choice(servers)
            continue
        try:
            short = [row for row in rows if row["queue"] <= rows[0]["queue"] + 1]
            server = by_url[chance.choice(short)["address"]] if short else chance.choice(servers)
            prompt = server.queue(_prompt(one.model, seed))
            while not server.get(f"/history/{prompt}").json:
                time.sleep(0.05)
        except FAILURES:
            time.sleep(SHAPE.detect)
        else:
            return


def _prompt(model: int, seed: int) -> prompts.Prompt:
    prompt = prompts.image(unet=f"m{model}.safetensors", seed=seed)
    prompt["wait"] = {"class_type": "WaitLatent", "inputs": {"samples": ["sampler", 0], "seconds": WAIT}}
    prompt["save"]["inputs"]["samples"] = ["wait", 0]
    return prompt


def _locate(asked: ComfyServer, model: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = asked.get(f"/preload/locate?{urlencode({'model': f'm{model}'})}").json[
        "replicas"
    ]
    return rows


def _row(seconds: Sequence[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    return {
        "p50": round(statistics.median(ordered), 2),
        "p95": round(ordered[int(0.95 * len(ordered))], 2),
        "longest": round(ordered[-1], 2),
        "over_5s": round(sum(s > 5 for s in ordered) / len(ordered), 3),
    }
