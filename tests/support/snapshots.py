"""Rows and snapshots for tests of the HTTP routes, and a `Door` that accepts every command."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from comfy_preload.core.errors import PreloadError, Problem, problem, unknown_model
from comfy_preload.core.host import HostFacts
from comfy_preload.core.machine.prefetch import PrefetchProgress
from comfy_preload.core.planning.call import LoaderCall
from comfy_preload.core.planning.missing_entries import lines_for
from comfy_preload.core.planning.rows import Profile, WarmUp, WarmUpState
from comfy_preload.core.settings.entry import Entry
from comfy_preload.core.state.evidence import LoaderUse, PromptUse, Served, WorkflowUse
from comfy_preload.core.state.jobs import Command, Job, JobState
from comfy_preload.core.state.snapshot import (
    FreeMemory,
    Hold,
    HoldResult,
    Model,
    ModelState,
    NotPreloaded,
    Progress,
    Snapshot,
    Status,
)
from comfy_preload.core.state.startup import Stages, StartStage
from comfy_preload.core.state.tally import PROMPT_BUCKETS, Counted, Histogram
from tests.support.node_table import NodeTable

SINCE = 1_795_379_974.9
"""2026-11-22T20:39:34Z."""
DONE = Progress(bytes=100, bytes_total=100, fraction=1.0, seconds=6.2, eta=0.0)
BROKEN = problem("file_empty", line=3, file="a.safetensors")
FAULT = problem("device_fault", reason="CUDA error: an illegal memory access was encountered")
UNSTEADY = problem(
    "warmup_unsteady", workflow="portrait", shape="512x512, batch 1", found="1.31", expected="1.05"
)
BLOCKED = problem("event_loop_blocked", found=12, expected=10)
ENDED = problem("prompt_worker_ended")
NOT_SERVED = {
    Status.STARTING,
    Status.LOADING,
    Status.WARMING,
    Status.FAILED,
    Status.SLEEPING,
    Status.DRAINING,
    Status.UNRESPONSIVE,
}
AHEAD = PrefetchProgress(bytes=70, bytes_total=100, cached=10, seconds=2.0, readers=1, running=True)


def model(name: str = "sdxl", state: ModelState = ModelState.RESIDENT, **fields: Any) -> Model:
    """Return a model; by default a loaded, required checkpoint. A failed one has a problem."""
    failed = state is ModelState.FAILED
    given = {key: fields.pop(key) for key in ("kind", "loader", "required") if key in fields}
    usual: dict[str, Any] = {"kind": "checkpoint", "loader": "CheckpointLoaderSimple"}
    entry = Entry(name=name, inputs={}, **{**usual, **given})
    seen: dict[str, Any] = {
        "device": "cuda:0",
        "bytes": 1000,
        "by_device": {"cuda:0": fields.pop("bytes_on_device", 1000)},
        "read_seconds": None,
        "load_seconds": 1.23456,
        "warm_seconds": None,
        "hits": 2,
        "evictions": 1,
        "problems": (BROKEN,) if failed else (),
    }
    return Model(LoaderCall(entry), state, **{**seen, **fields})


def warm_up(name: str = "portrait", state: WarmUpState = WarmUpState.WARM, **fields: Any) -> WarmUp:
    """Return a warm-up; by default one that succeeded."""
    profile = Profile("512x512, batch 1", state, seconds=4.5, first=1.02, steady=1.0)
    usual: dict[str, Any] = {"seconds": 4.5, "profiles": (profile,), "dtypes": ("float16",)}
    return WarmUp(name=name, state=state, **{**usual, **fields})


def job(
    job_id: str = "1", command: Command = Command.RELOAD, state: JobState = JobState.QUEUED, **fields: Any
) -> Job:
    """Return a job; by default a new one."""
    return Job(command, id=job_id, state=state, created=SINCE, **fields)


def snapshot(
    status: Status = Status.READY, *models: Model, problems: tuple[Problem, ...] = (), **fields: Any
) -> Snapshot:
    """Return a snapshot with the given models. `serves` follows from the status."""
    usual: dict[str, Any] = {
        "serves": status not in NOT_SERVED,
        "since": SINCE,
        "progress": DONE,
        "misses": {"VAELoader": 3},
        "host": HostFacts("0.3.75", "3.11.7", "2.14.1", "cuda:0 A100", "0.1.0"),
    }
    return Snapshot(status=status, models=models, problems=problems, **{**usual, **fields})


def full(status: Status = Status.FAILED) -> Snapshot:
    """Return a snapshot in which every field has a value."""
    failed = warm_up("b", WarmUpState.FAILED, problems=(BROKEN,))
    over = job(
        "2",
        Command.RELEASE,
        JobState.FAILED,
        model="m",
        started=SINCE,
        ended=SINCE,
        kept=("m",),
        problems=(BROKEN,),
    )
    return snapshot(
        status,
        model("m", ModelState.FAILED, warm_seconds=4.5, read_seconds=0.5),
        model(
            "n",
            ModelState.WARM,
            warm_seconds=4.5,
            read_seconds=0.5,
            warm_for=("512x512, batch 1",),
            served=Served().add(2.5).add(1.5),
        ),
        problems=(BROKEN,),
        prefetch=AHEAD,
        warmups=(warm_up(), failed),
        not_preloaded=(NotPreloaded("w.json", "12:3", "LoraLoader", BROKEN),),
        jobs=(job(), over),
        fault=FAULT,
        queue_remaining=3,
        loop_lag=1.5,
        hold=Hold("loaded", "dynamo", HoldResult.RESTORED, 2.5, 1160.25, SINCE, BROKEN),
        prompts=(
            PromptUse(
                "1",
                (
                    LoaderUse("VAELoader", "n", "hit", uploaded=1000),
                    LoaderUse(
                        "UNETLoader", "m", "miss", "input", "weight_dtype is default, planned fp8_e4m3fn"
                    ),
                ),
                ran=2.5,
                waited=0.1,
                workflow="w.json",
            ),
            PromptUse("2"),
        ),
        workflows=(WorkflowUse("w.json", "", Served().add(2.5).add(1.5), "UNETLoader: file: new"),),
        startup=Stages(StartStage.LOADING, dict.fromkeys(StartStage, 1.23456)),
        left=8.9,
        free=FreeMemory(host=50_000_000_000, device=20_000_000_000),
        counted=Counted(
            {("reload", "accepted"): 1, ("reload", "unauthorized"): 2},
            prompts_refused=1,
            prompts_lost=2,
            prompt=Histogram.empty(PROMPT_BUCKETS).observe(3.0),
        ),
    )


class OpenDoor:
    """A `Door` that has some models and records the commands it accepts."""

    def __init__(self, *models: str, settled: bool = True) -> None:
        self.jobs: list[Job] = []
        self._models = models
        self._settled = settled

    def order(self, command: Command, model: str | None = None) -> Job:
        if not self._settled:
            raise PreloadError(problem("command_too_early", command=command.value, found="loading"))
        if model is not None and model not in self._models:
            raise PreloadError(unknown_model(model, self._models))
        self.jobs.append(job(str(len(self.jobs)), command, model=model))
        return self.jobs[-1]

    def entries(self, prompt: Mapping[str, Any], tag: str | None = None) -> tuple[str, str]:
        if tag not in (None, "tag"):
            raise PreloadError(problem("settings_changed"))
        return lines_for(prompt, NodeTable()), "tag"
