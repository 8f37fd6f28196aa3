"""Owns which replicas there are and where their ComfyUI answers.

A named Ray actor that every replica reports to.
"""

from __future__ import annotations

import time
from typing import Any, TypedDict

import ray
from ray.actor import ActorHandle

NAMESPACE = "comfy-preload"
PERIOD = 5.0
"""Seconds between two reports of a replica."""
FORGET = 4 * PERIOD


class Row(TypedDict):
    """One replica."""

    url: str
    sets: list[str]
    queue: int


class Directory:
    """Rows by the replica's tag, forgotten when they are no longer reported."""

    def __init__(self) -> None:
        self._rows: dict[str, tuple[float, Row]] = {}
        self._born = time.monotonic()

    def put(self, tag: str, row: Row) -> None:
        """Enter a replica, or say that it is still there."""
        self._rows[tag] = time.monotonic(), row

    def drop(self, tag: str) -> None:
        """Forget a replica that is ending."""
        self._rows.pop(tag, None)

    def rows(self) -> tuple[dict[str, Row], bool]:
        """The rows, and whether they are all.

        A directory that was just restarted has not heard of everyone.
        """
        now = time.monotonic()
        self._rows = {tag: (at, row) for tag, (at, row) in self._rows.items() if now - at < FORGET}
        return {tag: row for tag, (_, row) in self._rows.items()}, now - self._born > 2 * PERIOD


def directory(application: str) -> ActorHandle[Any]:
    """The one directory of the application, made if there is none. Ray restarts it, empty, if it dies."""
    return (
        ray.remote(Directory)
        .options(
            name=application,
            namespace=NAMESPACE,
            get_if_exists=True,
            lifetime="detached",
            max_restarts=-1,
            num_cpus=0,
        )
        .remote()
    )
