"""Send commands and wait for their jobs."""

from __future__ import annotations

from typing import Any

from .comfy import ComfyServer
from .reply import Reply


def order(server: ComfyServer, command: str, model: str | None = None) -> Reply:
    """Send a command and return the response."""
    return server.post(f"/preload/{command}", {"model": model} if model else None)


def carry_out(
    server: ComfyServer, command: str, model: str | None = None, deadline: float = 60.0
) -> dict[str, Any]:
    """Send a command, wait until its job has finished, and return the job."""
    accepted = order(server, command, model)
    assert 202 == accepted.status, accepted
    job: dict[str, Any] = {}

    def over() -> bool:
        reply = server.get(accepted.headers["Location"])
        assert 200 == reply.status, reply
        job.update(reply.json)
        return job["state"] in ("done", "failed")

    server.wait(over, f"done with {command}", deadline=deadline)
    return job
