"""Convert a snapshot into JSON bodies.

The keys are the same in every state; no path, token or environment variable.
"""

from __future__ import annotations

import math
from datetime import datetime, timezone
from typing import Any

from comfy_preload.core.errors import Problem
from comfy_preload.core.machine.prefetch import PrefetchProgress
from comfy_preload.core.planning.rows import NotPreloaded, WarmUp
from comfy_preload.core.settings.document import FILE_NAME
from comfy_preload.core.state.evidence import PromptUse, Served
from comfy_preload.core.state.jobs import Job
from comfy_preload.core.state.snapshot import Hold, Model, ModelState, Snapshot
from comfy_preload.core.text import summary

MAX_FAILING = 100
"""At most this many failed models are listed; `models.failed` counts all."""
MAX_LEFT = 500
"""At most this many nodes that are not preloaded are listed."""
MAX_JOBS = 10
"""At most this many jobs are listed in `/preload`; older ones can be requested one by one."""


def ready(snapshot: Snapshot, *, verbose: bool = False, stages: bool = False) -> dict[str, Any]:
    """Return the body of `/ready`; `stages` adds the stages of the start."""
    states = [model.state for model in snapshot.models]
    models: dict[str, Any] = {
        "total": len(states),
        "ready": sum(state.loaded for state in states),
        "failed": sum(state is ModelState.FAILED for state in states),
        "not_preloaded": len(snapshot.not_preloaded),
    }
    if verbose:
        models["items"] = [row(model) for model in snapshot.models]
    failing = {FILE_NAME: snapshot.problems} if snapshot.problems else {}
    failing |= snapshot.failing() | snapshot.degraded()
    progress = snapshot.progress
    fault = snapshot.fault or snapshot.unresponsive
    return {
        "status": snapshot.status.value,
        "since": _utc(snapshot.since),
        "models": models,
        "progress": {
            "fraction": progress.fraction,
            "bytes": progress.bytes,
            "bytes_total": progress.bytes_total,
            "seconds": progress.seconds,
            "eta": progress.eta,
        },
        "failing": {name: _error(p) for name, p in list(failing.items())[:MAX_FAILING]},
        "fault": _error((fault,)) if fault else None,
        **({"startup": _startup(snapshot)} if stages else {}),
    }


def alive(snapshot: Snapshot) -> dict[str, Any]:
    """Return the body of `/livez`."""
    return {
        "status": "alive" if snapshot.alive else "dead",
        "fault": _error((snapshot.fault,)) if snapshot.fault else None,
    }


def model(item: Model) -> dict[str, Any]:
    """Return the body of `/ready/{name}`."""
    return {"status": "ready" if item.state.loaded else item.state.value, **row(item)}


def everything(snapshot: Snapshot) -> dict[str, Any]:
    """Return the body of `/preload`."""
    host = snapshot.host
    return {
        **ready(snapshot, verbose=True),
        "hits": sum(item.hits for item in snapshot.models),
        "misses": snapshot.misses,
        "sleeping": snapshot.sleeping,
        "queue_remaining": snapshot.queue_remaining,
        "warmups": [_warmup(item) for item in snapshot.warmups if item.requested],
        "workflows": [
            {"name": one.name, "served": _served(one.served), "last_miss": one.last_miss}
            for one in snapshot.workflows
        ],
        "not_preloaded": [_not_preloaded(item) for item in snapshot.not_preloaded[:MAX_LEFT]],
        "jobs": [job(item) for item in snapshot.jobs[-MAX_JOBS:]],
        "prefetch": _prefetch(snapshot.prefetch) if snapshot.prefetch else None,
        "snapshot": _hold(snapshot.hold) if snapshot.hold else None,
        "host": {
            "comfyui": host.comfyui,
            "python": host.python,
            "torch": host.torch,
            "device": host.device,
            "plugin": host.plugin,
        }
        if host
        else None,
    }


def job(item: Job) -> dict[str, Any]:
    """Return a job: the body of `/preload/jobs/{id}`, and of the response to a command."""
    return {
        "id": item.id,
        "command": item.command.value,
        "model": item.model,
        "reason": item.reason,
        "state": item.state.value,
        "created": _utc(item.created),
        "started": None if item.started is None else _utc(item.started),
        "ended": None if item.ended is None else _utc(item.ended),
        "loaded": list(item.loaded),
        "kept": list(item.kept),
        "released": list(item.released),
        "error": _error(item.problems) if item.problems else None,
    }


def prompt(item: PromptUse) -> dict[str, Any]:
    """Return the body of `/preload/explain/{id}`."""
    return {
        "id": item.id,
        "state": "running" if item.ran is None else "done",
        "seconds": _rounded(item.ran),
        "waited": _rounded(item.waited),
        "workflow": item.workflow,
        "loaders": [
            {
                "loader": use.loader,
                "model": use.model,
                "result": use.result,
                "reason": use.reason,
                "message": use.message,
                "uploaded": use.uploaded,
            }
            for use in item.uses
        ],
    }


def refusal(wrong: Problem) -> dict[str, Any]:
    """Return the body of an error response."""
    return {"error": wrong.as_json()}


def _warmup(item: WarmUp) -> dict[str, Any]:
    return {
        "name": item.name,
        "required": item.required,
        "state": item.state.value,
        "seconds": _rounded(item.seconds),
        "shapes": list(item.shapes),
        "profiles": [
            {
                "shape": one.shape,
                "state": one.state.value,
                "seconds": _rounded(one.seconds),
                "first": _rounded(one.first),
                "steady": _rounded(one.steady),
                "ratio": _rounded(one.ratio),
            }
            for one in item.profiles
        ],
        "dtypes": list(item.dtypes),
        "error": _error(item.problems) if item.problems else None,
        "notes": [_error((note,)) for note in item.notes],
    }


def _startup(snapshot: Snapshot) -> dict[str, Any]:
    now, free = snapshot.startup, snapshot.free
    return {
        "stage": now.stage.value if now.stage else None,
        "total": round(sum(now.seconds.values()), 3),
        "left": snapshot.left,
        "seconds": {stage.value: round(seconds, 3) for stage, seconds in now.seconds.items()},
        "free": {"host": free.host, "device": free.device},
    }


def _not_preloaded(item: NotPreloaded) -> dict[str, Any]:
    return {
        "workflow": item.workflow,
        "node": item.node,
        "loader": item.loader,
        **_error((item.problem,)),
    }


def _prefetch(progress: PrefetchProgress) -> dict[str, Any]:
    return {
        "running": progress.running,
        "bytes": progress.bytes,
        "bytes_total": progress.bytes_total,
        "cached": progress.cached,
        "seconds": round(progress.seconds, 3),
        "gb_per_second": round(progress.rate / 1e9, 3),
        "readers": progress.readers,
    }


def _hold(item: Hold) -> dict[str, Any]:
    return {
        "when": item.when,
        "provider": item.provider,
        "result": item.result.value,
        "seconds": round(item.seconds, 3),
        "jumped": round(item.jumped, 3),
        "restored": None if item.restored is None else _utc(item.restored),
        "error": _error((item.problem,)) if item.problem else None,
    }


def row(item: Model) -> dict[str, Any]:
    """Return one row of `?verbose`. `move` is not measured for each model, so it is null."""
    return {
        "name": item.name,
        "kind": item.call.entry.kind,
        "loader": item.call.entry.loader,
        "required": item.required,
        "state": item.state.value,
        "device": item.device,
        "bytes": item.bytes,
        "bytes_on_device": item.bytes_on_device,
        "seconds": {
            "read": _rounded(item.read_seconds),
            "load": _rounded(item.load_seconds),
            "move": None,
            "warm": _rounded(item.warm_seconds),
        },
        "hits": item.hits,
        "evictions": item.evictions,
        "served": _served(item.served),
        "last_miss": item.last_miss,
        "warm_for": list(item.warm_for),
        "error": _error(item.problems) if item.problems else None,
    }


def _served(item: Served) -> dict[str, Any]:
    return {
        "prompts": item.prompts,
        "first": _rounded(item.first),
        "last": _rounded(item.last),
        "median": _rounded(item.median),
    }


def retry_after(snapshot: Snapshot) -> int:
    """Return after how many seconds to ask again."""
    eta = snapshot.progress.eta
    return max(1, min(60, math.ceil(eta))) if eta else 5


def _error(problems: tuple[Problem, ...]) -> dict[str, Any]:
    """Return the first problem, with the messages of all, or of the first ten."""
    first = problems[0]
    message = summary(p.message for p in problems)
    return {**first.as_json(), "message": message, "line": first.line}


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def _utc(unix: float) -> str:
    return datetime.fromtimestamp(unix, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
