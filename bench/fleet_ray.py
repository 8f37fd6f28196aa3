"""Measure a fleet of real processes under one burst.

Ray Serve, random routing, the nginx gateway; and Ray Serve as it grows.

    python -m bench.fleet_ray ray random gateway   # each a minute and a half, with a kill and a drain
    python -m bench.fleet_ray grow                 # one, two and three replicas, saturated

The results are added to docs/scale.json. A node of each prompt waits a second, in place of a GPU's work.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, NamedTuple

from bench.fleet import DOCS, percentile
from bench.fleet_model import Arrival, Shape, poisson
from bench.fleet_real import FAILURES, WAIT
from tests.ray.cluster import Cluster
from tests.support import models as tiny
from tests.support import nginx, prompts
from tests.support.comfy import ComfyServer, free_port
from tests.support.redis_server import RedisServer
from tests.support.reply import Reply, ask
from tools.host import comfyui_path, comfyui_python

SETS = "ab"
SHAPE = Shape(replicas=3, nodes=3, models=2, capacity=1, skew=1.2)
RATES = ((20.0, 0.5), (30.0, 1.2), (50.0, 0.5))
"""Until when, and how many requests a second: a burst in the middle."""
KILL, DRAIN = 12.0, 36.0
NODE = """
import os
import time

class WaitLatent:
    CATEGORY, FUNCTION, RETURN_TYPES = "bench", "wait", ("LATENT",)

    @classmethod
    def INPUT_TYPES(cls):
        inputs = {"samples": ("LATENT",), "seconds": ("FLOAT", {"default": 1.0}), "mark": ("STRING", {})}
        return {"required": inputs}

    def wait(self, samples, seconds, mark):
        time.sleep(seconds)
        with open(os.environ["NAPS"], "a") as done:
            done.write(mark + "\\n")
        return (samples,)

NODE_CLASS_MAPPINGS = {"WaitLatent": WaitLatent}
"""


class Answer(NamedTuple):
    """What became of a request that a replica took.

    It has its image, and whether its models were there before.
    """

    done: bool
    warm: bool


Send = Callable[[int, int, str], Answer | None]
"""(set, seed, mark) -> the answer; None if nobody took it or its replica died."""


class Traffic:
    """The same requests for all: each user asks again, a second later, until there is an image."""

    def __init__(self, send: Send, marks: Path) -> None:
        self._send = send
        self._marks = marks

    def run(self, arrivals: Sequence[Arrival], events: dict[float, Callable[[], None]]) -> dict[str, Any]:
        seconds = [0.0] * len(arrivals)
        answers: list[list[Answer | None]] = [[] for _ in arrivals]
        load = os.getloadavg()[0]
        began = time.monotonic()

        def user(index: int) -> None:
            one = arrivals[index]
            while not answers[index] or answers[index][-1] is None:
                if answers[index]:
                    time.sleep(1.0)
                with suppress(*FAILURES):
                    answers[index].append(self._send(one.model, index, str(index)))
                    continue
                answers[index].append(None)
            seconds[index] = time.monotonic() - began - one.at

        threads = [threading.Timer(one.at, user, (index,)) for index, one in enumerate(arrivals)]
        threads += [threading.Timer(at, act) for at, act in events.items()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        runs = Counter(self._marks.read_text(encoding="utf-8").splitlines())
        last = [found[-1] for found in answers]
        return {
            "requests": len(arrivals),
            "p50": round(statistics.median(seconds), 2),
            "p95": round(percentile(seconds, 0.95), 2),
            "longest": round(max(seconds), 2),
            "warm": round(sum(a is not None and a.warm for a in last) / len(last), 3),
            "asked_again": sum(len(found) - 1 for found in answers),
            "lost": sum(a is None or not a.done for a in last),
            "run_twice": sum(count > 1 for count in runs.values()),
            "load": [round(load, 1), round(os.getloadavg()[0], 1)],
        }


def _prompt(number: int, seed: int, mark: str) -> prompts.Prompt:
    prompt = prompts.image(unet=f"m{number}.safetensors", seed=seed)
    inputs = {"samples": ["sampler", 0], "seconds": WAIT, "mark": mark}
    prompt["wait"] = {"class_type": "WaitLatent", "inputs": inputs}
    prompt["save"]["inputs"]["samples"] = ["wait", 0]
    return prompt


def _models(folder: Path) -> None:
    for number in range(SHAPE.models):
        tiny.tiny_unet(folder / "diffusion_models" / f"m{number}.safetensors", seed=number)
    tiny.tiny_clip(folder / "text_encoders" / "clip_l.safetensors")


def _entries(number: int) -> list[dict[str, Any]]:
    return [{"unet": f"m{number}.safetensors"}, {"clip": "clip_l.safetensors", "type": "sd3"}]


# -- Ray Serve ----------------------------------------------------------------------------------------


class _Ray:
    """The application of deploy/ray on a head node of its own."""

    def __init__(self, stack: ExitStack, folder: Path, replicas: int) -> None:
        self.cluster = Cluster(folder, custom_nodes={"wait": NODE})
        _models(folder / "models")
        stack.enter_context(self.cluster)
        self.sets = {"sets": {name: {"models": _entries(number)} for number, name in enumerate(SETS)}}
        self.cluster.serve(self.sets, replicas=replicas)
        self.marks = folder / "naps"

    def send(self, number: int, seed: int, mark: str) -> Answer | None:
        reply = self.cluster.post("/run", {"prompt": _prompt(number, seed, mark)})
        if reply.status not in (200, 500):
            return None
        return Answer(reply.status == 200, reply.headers.get("x-warm") == "true")

    def kill(self) -> None:
        os.kill(self.cluster.comfyuis()[0], signal.SIGKILL)  # ours, started above

    def drain(self) -> None:
        self.cluster.serve(self.sets, replicas=2, wait=False)
        time.sleep(8)
        self.cluster.serve(self.sets, replicas=3, wait=False)


def ray(folder: Path) -> dict[str, Any]:
    with ExitStack() as stack:
        fleet = _Ray(stack, folder, 3)
        for number in range(SHAPE.models):
            fleet.send(number, 999, f"first-{number}")
        return Traffic(fleet.send, fleet.marks).run(_arrivals(), {KILL: fleet.kill, DRAIN: fleet.drain})


def grow(folder: Path) -> list[dict[str, Any]]:
    """Images a second, and seconds for each, while twelve users ask again and again for both sets."""
    found: list[dict[str, Any]] = []
    for replicas in (1, 2, 3):
        with ExitStack() as stack:
            fleet = _Ray(stack, folder / str(replicas), replicas)
            for number in range(SHAPE.models):
                fleet.send(number, 999, f"first-{number}")
            found.append({"replicas": replicas, **_saturate(fleet)})
    return found


def _saturate(fleet: _Ray, users: int = 12, span: float = 30.0) -> dict[str, Any]:
    seconds: list[float] = []
    warm: list[bool] = []
    end = time.monotonic() + span

    def user(index: int) -> None:
        turn = 0
        while time.monotonic() < end:
            began, turn = time.monotonic(), turn + 1
            if answer := fleet.send(index % SHAPE.models, 1000 * index + turn, f"{index}-{turn}"):
                seconds.append(time.monotonic() - began)
                warm.append(answer.warm)

    threads = [threading.Thread(target=user, args=(index,)) for index in range(users)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {
        "images_per_second": round(len(seconds) / span, 2),
        "p50": round(statistics.median(seconds), 2),
        "p95": round(percentile(seconds, 0.95), 2),
        "warm": round(sum(warm) / len(warm), 3),
        "load": round(os.getloadavg()[0], 1),
    }


# -- ComfyUIs that know nothing of each other, or only of the registry ---------------------------------


class _Servers:
    """Three ComfyUIs, started again when they end, as Kubernetes would. Each holds one set: a, b, a."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        _models(folder / "models")
        self.marks = folder / "naps"
        self.redis = stack.enter_context(RedisServer(folder))
        self.all: list[ComfyServer] = []
        for index in range(SHAPE.replicas):
            port = free_port()
            registry = {"redis": self.redis.url, "advertise": f"http://127.0.0.1:{port}", "id": f"r{index}"}
            server = ComfyServer(
                folder / f"replica-{index}",
                host=comfyui_path(),
                python=comfyui_python(),
                preload=json.dumps({"models": _entries(index % SHAPE.models), "registry": registry}),
                models=folder / "models",
                custom_nodes={"wait": NODE},
                port=port,
                env={"NAPS": str(self.marks)},
            )
            self.all.append(stack.enter_context(server))
        for server in self.all:
            server.wait_ready()
        self.ready = set(range(SHAPE.replicas))
        self._over = threading.Event()
        stack.callback(self._over.set)
        threading.Thread(target=self._probe, daemon=True).start()

    def _probe(self) -> None:
        """Once a second, as a kubelet: who is ready, and who has to be started again."""
        while not self._over.wait(1.0):
            for index, server in enumerate(self.all):
                ok = False
                with suppress(*FAILURES):
                    ok = server.get("/ready").status == 200
                (self.ready.add if ok else self.ready.discard)(index)
                if not server.running and not self._over.is_set():
                    server.start()

    def end(self, index: int, how: signal.Signals) -> None:
        pid = self.all[index].pid
        if pid:
            os.kill(pid, how)  # ours, started above

    def result(self, url: str, prompt_id: str) -> bool:
        while True:
            entry = ask(f"{url}/history/{prompt_id}").json.get(prompt_id)
            if entry:
                return entry["status"]["status_str"] == "success"
            queue = ask(f"{url}/queue").json
            known = prompt_id in {item[1] for key in queue for item in queue[key]}
            if not known and not ask(f"{url}/history/{prompt_id}").json:
                raise ConnectionError("the replica was started again")
            time.sleep(0.1)

    def send_random(self, number: int, seed: int, mark: str) -> Answer | None:
        index = random.choice(sorted(self.ready))  # noqa: S311 — a choice among equals
        reply = self.all[index].post("/prompt", {"prompt": _prompt(number, seed, mark)})
        return self._answer(reply, index, number)

    def send_gateway(self, url: str, number: int, seed: int, mark: str) -> Answer | None:
        reply = ask(f"{url}/prompt", method="POST", body={"prompt": _prompt(number, seed, mark)})
        if reply.status != 200:
            return None
        return self._answer(reply, int(reply.headers["X-Replica"][1:]), number)

    def _answer(self, reply: Reply, index: int, number: int) -> Answer | None:
        if reply.status != 200:
            return None
        done = self.result(self.all[index].url, reply.json["prompt_id"])
        return Answer(done, index % SHAPE.models == number)


def without_router(folder: Path) -> dict[str, Any]:
    with ExitStack() as stack:
        fleet = _Servers(stack, folder)
        for number in range(SHAPE.models):
            fleet.send_random(number, 999, f"first-{number}")
        return Traffic(fleet.send_random, fleet.marks).run(_arrivals(), _ends(fleet))


def gateway(folder: Path) -> dict[str, Any]:
    with ExitStack() as stack:
        fleet = _Servers(stack, folder)
        (folder / "nginx").mkdir()
        addresses = [f"127.0.0.1:{server.port}" for server in fleet.all]
        url = stack.enter_context(nginx.gateway(folder / "nginx", addresses))
        for number in range(SHAPE.models):
            fleet.send_gateway(url, number, 999, f"first-{number}")
        return Traffic(lambda *one: fleet.send_gateway(url, *one), fleet.marks).run(_arrivals(), _ends(fleet))


def _ends(fleet: _Servers) -> dict[float, Callable[[], None]]:
    return {KILL: lambda: fleet.end(0, signal.SIGKILL), DRAIN: lambda: fleet.end(1, signal.SIGTERM)}


def _arrivals() -> list[Arrival]:
    return poisson(SHAPE, RATES, seed=1)


WAYS: dict[str, Callable[[Path], Any]] = {
    "ray": ray,
    "random": without_router,
    "gateway": gateway,
    "grow": grow,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("ways", nargs="+", choices=WAYS)
    file = DOCS / "scale.json"
    for way in parser.parse_args().ways:
        with tempfile.TemporaryDirectory(prefix="fleet-") as folder:
            (Path(folder) / "naps").touch()
            found = WAYS[way](Path(folder))
        print(way, json.dumps(found), flush=True)
        figures = json.loads(file.read_text(encoding="utf-8"))
        figures["ray"] = (figures.get("ray") or {}) | {way: found}
        file.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
