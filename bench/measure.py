"""Measure one cold start of ComfyUI, from the start of the process to the prompt after another workflow."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.scenario import Scenario, evict
from tests.support import prompts
from tests.support.comfy import ComfyServer
from tools.host import ROOT, comfyui_path, comfyui_python

DEADLINE = 900.0
POLL = 0.05
STEADY = 3
WORKFLOW = "workflows:\n  - path: warm-up.json\n    warmup: true\n"
"""Next to the settings file, in the server's base directory."""


@dataclass(frozen=True)
class Arm:
    """One start-up method.

    `loaders_first`: call the loader nodes in another process first, as a common recipe does. `warm_up`: a
    client posts one prompt as early as possible, and the next prompt counts as the user's first. `workflow`:
    the settings file lists the scenario's prompt as a workflow to warm up with.
    """

    title: str
    settings: str | None = None
    """The lines of preload.yaml before the models; None runs without the plugin."""
    loaders_first: bool = False
    warm_up: bool = False
    workflow: bool = False
    recorded: bool = True
    """Whether an earlier start has recorded what it read, as in a container image (`preload.py trace`)."""


@dataclass(frozen=True)
class Change:
    """When /ready began to give this response, in seconds since the start."""

    seconds: float
    answer: str


@dataclass(frozen=True)
class Figures:
    """The figures of one start.

    Seconds; `listening`, `ready` and `first_image` count from the start of the process.
    """

    listening: float
    ready: float | None
    first: float
    steady: float
    after_another: float
    first_image: float
    peak_bytes: int | None
    read_bytes: int | None
    """Bytes read from the storage until the first image."""
    prefetch: dict[str, Any] | None
    """The prefetch as reported by /preload."""
    timeline: tuple[Change, ...]

    @property
    def first_to_steady(self) -> float:
        """Return first / steady. 1.0: the first prompt is as fast as any other."""
        return self.first / self.steady

    @property
    def after_to_steady(self) -> float:
        """Return after another workflow / steady. 1.0: another workflow in between costs nothing."""
        return self.after_another / self.steady


def measure(
    scenario: Scenario,
    arm: Arm,
    *,
    port: int,
    args: Sequence[str] = (),
    cpu: bool = True,
    evicted: str = "models",
    record: Path | None = None,
) -> Figures:
    """Start ComfyUI after something was evicted from the page cache, use it, stop it.

    `evicted`: a key of EVICTIONS. `record`: what an earlier start has read, for the arms that have a record.
    """
    EVICTIONS[evicted](scenario)
    plugin = arm.settings is not None
    with tempfile.TemporaryDirectory(prefix="preload-bench-") as base:
        server = ComfyServer(
            Path(base),
            host=comfyui_path(),
            python=comfyui_python(),
            plugin=plugin,
            preload=f"{arm.settings}\n{scenario.preload}{WORKFLOW if arm.workflow else ''}"
            if plugin
            else None,
            models=scenario.models,
            args=args,
            port=port,
            cpu=cpu,
        )
        (Path(base) / "warm-up.json").write_text(json.dumps(scenario.prompt(0)), encoding="utf-8")
        if record and plugin and arm.recorded:
            own = Path(base) / "user" / "comfy-preload" / "startup.trace"
            own.parent.mkdir(parents=True)
            own.write_bytes(record.read_bytes())
        begun = time.monotonic()
        numbers = iter(range(1, 100))

        def seconds() -> float:
            return _timed(server, scenario.prompt(next(numbers)))

        if arm.loaders_first:
            _call_loaders(scenario, Path(base), cpu=cpu)
        with server, ReadyWatch(server, begun) as watch:
            server.wait_listening(DEADLINE)
            listening = ready = time.monotonic() - begun
            if plugin:
                server.wait(
                    lambda: watch.ready is not None or watch.failed, "ready", deadline=DEADLINE, every=0.01
                )
                if watch.failed:
                    raise RuntimeError(f"/ready says failed:\n{server.get('/ready').text}")
                ready = watch.ready or listening
            if arm.warm_up:
                seconds()
                ready = time.monotonic() - begun
            first = seconds()
            first_image = time.monotonic() - begun
            read = _read_bytes(server.pid)
            steady = statistics.median(seconds() for _ in range(STEADY))
            _timed(server, prompts.unrelated())
            after_another = seconds()
            return Figures(
                listening=listening,
                ready=ready if plugin or arm.warm_up else None,
                first=first,
                steady=steady,
                after_another=after_another,
                first_image=first_image,
                peak_bytes=server.peak_rss,
                read_bytes=read,
                prefetch=server.get("/preload").json["prefetch"] if plugin else None,
                timeline=tuple(watch.changes),
            )


def _call_loaders(scenario: Scenario, base: Path, *, cpu: bool) -> None:
    """Call the scenario's loader nodes in a process that then exits."""
    calls = [node for node in scenario.prompt(0).values() if "Loader" in node["class_type"]]
    script = Path(__file__).with_name("call_loaders.py")
    command = [
        str(comfyui_python()),
        str(script),
        str(comfyui_path()),
        str(base),
        json.dumps(calls),
        *["--cpu"][: int(cpu)],
    ]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _read_bytes(pid: int | None) -> int | None:
    counters = Path(f"/proc/{pid}/io")
    if not counters.exists():
        return None
    rows = dict(line.split(": ") for line in counters.read_text(encoding="ascii").splitlines())
    return int(rows["read_bytes"])


def warm_libraries(port: int, *, cpu: bool) -> float:
    """Start ComfyUI once without models, so that its imports are cached for every measured start.

    Returns the seconds until it listened.
    """
    with (
        tempfile.TemporaryDirectory(prefix="preload-demo-") as base,
        ComfyServer(
            Path(base), host=comfyui_path(), python=comfyui_python(), plugin=False, port=port, cpu=cpu
        ) as server,
    ):
        begun = time.monotonic()
        server.wait_listening(DEADLINE)
        return time.monotonic() - begun


def record_start(file: Path, *, cpu: bool) -> Path:
    """Write what a start of ComfyUI reads, with the plugin's own command, as an image build does."""
    command = [str(comfyui_python()), str(ROOT / "preload.py"), "trace", "--output", str(file)]
    command += ["--comfyui", str(comfyui_path()), "--", *["--cpu"][: int(cpu)]]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return file


def evict_everything(scenario: Scenario) -> None:
    """Leave nothing in the page cache: no model, no library, not even Python.

    Where the system's own command is not to be had (Linux, root), evicts what a start reads, file by file.
    """
    scenario.evict()
    try:
        Path("/proc/sys/vm/drop_caches").write_text("3", encoding="ascii")
    except OSError:
        folders = {comfyui_path(), comfyui_python().parents[1], Path(sys.base_prefix) / "lib"}
        evict(file for folder in folders for file in folder.rglob("*") if file.is_file())


EVICTIONS: dict[str, Callable[[Scenario], None]] = {
    "everything": evict_everything,
    "models": Scenario.evict,
    "nothing": lambda _: None,
}
"""What is not in the page cache at the start: as in a fresh container, with new models, after a restart."""


class ReadyWatch:
    """Request /ready every 50 ms, as an orchestrator would, and record when the response changes."""

    def __init__(self, server: ComfyServer, begun: float) -> None:
        self.changes: list[Change] = []
        self.ready: float | None = None
        self.failed = False
        self._server = server
        self._begun = begun
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> ReadyWatch:  # noqa: PYI034 — Self is not in Python 3.10
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while self.ready is None and not self.failed and not self._stop.wait(POLL):
            answer = self._ask()
            if not self.changes or self.changes[-1].answer != answer:
                self.changes.append(Change(round(time.monotonic() - self._begun, 2), answer))
            self.failed = answer == "503 failed"
            if answer.startswith("200"):
                self.ready = time.monotonic() - self._begun

    def _ask(self) -> str:
        try:
            reply = self._server.get("/ready")
        except OSError:
            return "refused"
        status = reply.json.get("status", "") if isinstance(reply.json, dict) else ""
        return f"{reply.status} {status}".rstrip()


def _timed(server: ComfyServer, prompt: prompts.Prompt) -> float:
    begun = time.monotonic()
    server.result(server.queue(prompt), DEADLINE, every=0.005)
    return time.monotonic() - begun
