"""Owns hand-made entries, and registries of this process that end with the test."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from comfy_preload.core.state.snapshot import Snapshot, Status
from comfy_preload.registry.address import Address
from comfy_preload.registry.service import Registry
from comfy_preload.registry.statement import Held, Statement
from tests.support.snapshots import model, snapshot

NAME = '模型 "XL" it\'s + 100 % <b>'
"""Spaces, quotes and Chinese characters, and what means something in URLs and HTML."""


def held(name: str = "sdxl", **fields: Any) -> Held:
    """On the device, by default."""
    usual: dict[str, Any] = {
        "content": "c1-0",
        "state": "resident",
        "device": "cuda:0",
        "bytes": 100,
        "bytes_on_device": 100,
    }
    return Held(name=name, **{**usual, **fields})


def replica(name: str = "b", *models: Held, **fields: Any) -> Statement:
    """Ready and idle, by default."""
    usual: dict[str, Any] = {
        "instance": f"process-of-{name}",
        "address": f"http://{name}:8188",
        "version": "0.1.0",
        "status": "ready",
        "ready": True,
        "queue": 0,
        "models": models or (held(),),
        "models_total": len(models) or 1,
        "updated": time.time(),
    }
    return Statement(id=name, **{**usual, **fields})


def ready(*names: str) -> Snapshot:
    return snapshot(Status.READY, *(model(name) for name in names or ("sdxl",)))


def registry(url: str, name: str = "a", now: Callable[[], Snapshot] = ready, **options: Any) -> Registry:
    """Not started yet."""
    at = Address(redis=url, advertise=f"http://{name}:8188", id=name, **options)
    return Registry(at, now, version="0.1.0")


def until(condition: Callable[[], object], what: str, deadline: float = 10.0) -> None:
    """Wait for it."""
    end = time.monotonic() + deadline
    while not condition():
        assert time.monotonic() < end, f"not {what} after {deadline:.0f} s"
        time.sleep(0.02)


def ids(one: Registry) -> list[str]:
    """Whom it knows, itself included."""
    return [row["id"] for row in one.fleet.listing()["replicas"]]


def codes(one: Registry) -> list[str]:
    return [row["code"] for row in one.fleet.listing()["problems"]]
