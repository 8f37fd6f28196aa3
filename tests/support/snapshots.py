"""Owns hand-made rows and snapshots: what `/ready` is told, with as little as a test needs to say."""

from __future__ import annotations

from typing import Any

from preload_plugin.core.errors import Problem, problem
from preload_plugin.core.host import HostFacts
from preload_plugin.core.readiness import Model, ModelState, Progress, Snapshot, Status

SINCE = 1_795_379_974.9
"""2026-11-22T20:39:34Z."""
DONE = Progress(bytes=100, bytes_total=100, fraction=1.0, seconds=6.2, eta=0.0)
BROKEN = problem("file_empty", line=3, file="a.safetensors")


def model(name: str = "sdxl", state: ModelState = ModelState.RESIDENT, **fields: Any) -> Model:
    """A loaded, required checkpoint unless told otherwise. A failed one has a problem."""
    failed = state is ModelState.FAILED
    usual: dict[str, Any] = {
        "kind": "checkpoint",
        "loader": "CheckpointLoaderSimple",
        "required": True,
        "device": "cuda:0",
        "bytes": 1000,
        "bytes_on_device": 1000,
        "read_seconds": None,
        "load_seconds": 1.23456,
        "hits": 2,
        "problems": (BROKEN,) if failed else (),
    }
    return Model(name=name, state=state, **{**usual, **fields})


def snapshot(status: Status = Status.READY, *models: Model, problems: tuple[Problem, ...] = (), **fields: Any) -> Snapshot:
    """What there is to say, with the given models."""
    usual: dict[str, Any] = {
        "since": SINCE,
        "progress": DONE,
        "misses": {"VAELoader": 3},
        "host": HostFacts("0.3.75", "3.11.7", "2.14.1", "cuda:0 A100"),
    }
    return Snapshot(status=status, models=models, problems=problems, **{**usual, **fields})
