"""Read values from a server with the plugin; and break model files so that any read of them fails."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .comfy import ComfyServer

CUSTOM_NODES = Path(__file__).resolve().parent / "custom_nodes"
"""Folders of nodes for tests."""


def rows(server: ComfyServer) -> dict[str, dict[str, Any]]:
    """Return the models of `/preload`, by name."""
    return {row["name"]: row for row in server.get("/preload").json["models"]["items"]}


def hits(server: ComfyServer) -> dict[str, int]:
    """Return the hits of each model."""
    return {name: row["hits"] for name, row in rows(server).items()}


def misses(server: ComfyServer) -> dict[str, int]:
    """Return the misses of each loader."""
    found: dict[str, int] = server.get("/preload").json["misses"]
    return found


def own_lines(server: ComfyServer) -> list[str]:
    """Return the log lines of the plugin."""
    return [line for line in server.log.splitlines() if "[preload]" in line]


def every_body(server: ComfyServer) -> str:
    """Return the responses of all of the plugin's GET routes, as one text."""
    paths = ["/ready", "/ready?verbose", "/preload", "/livez", *(f"/ready/{name}" for name in rows(server))]
    return "\n".join(str(server.get(path.replace(" ", "%20"))) for path in paths)


def poison(folder: Path, names: Iterable[str]) -> None:
    """Break the headers of safetensors files in place: opening one fails from now on.

    Modification time, size and inode stay, so the change is not detectable. Never use it on hard links.
    """
    for name in names:
        path = folder / name
        before = path.stat()
        with path.open("r+b") as file:
            file.write((1 << 60).to_bytes(8, "little"))
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        after = path.stat()
        if (before.st_mtime_ns, before.st_size, before.st_ino) != (
            after.st_mtime_ns,
            after.st_size,
            after.st_ino,
        ):
            raise OSError(f"{name} did not keep its identity")
