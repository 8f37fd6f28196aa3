"""Owns what the front answers that ComfyUI does not: refusals, lost prompts, files with their replica.

Knows no state.
"""

import json
from typing import Any

from fastapi import Response
from fastapi.responses import JSONResponse

RETRY_AFTER = 5
"""Seconds, in the header of that name."""
FOLDER = "replica-"
"""Where a file of a replica is, for clients: `subfolder` begins with this and the replica's tag."""


def is_file(value: dict[str, Any]) -> bool:
    """Is this how ComfyUI's outputs name a file?"""
    return all(isinstance(value.get(key), str) for key in ("filename", "subfolder", "type"))


def refusal(kind: str, message: str) -> dict[str, Any]:
    """An error as ComfyUI's /prompt answers it."""
    return {"error": {"type": kind, "message": message, "details": "", "extra_info": {}}, "node_errors": {}}


def refused(status: int, kind: str, message: str, *, retry: bool = False) -> Response:
    """An error as ComfyUI's /prompt answers it."""
    return JSONResponse(refusal(kind, message), status, {"Retry-After": str(RETRY_AFTER)} if retry else {})


def lost(prompt_id: str | None, why: str) -> dict[str, Any]:
    """The entry of /history of a prompt that has no result and is not run again."""
    message = f"{why}; the prompt was accepted before, so it is not run again"
    error = {
        "prompt_id": prompt_id,
        "node_id": None,
        "node_type": None,
        "executed": [],
        "exception_message": message,
        "exception_type": "PromptLost",
        "traceback": [],
    }
    status = {"status_str": "error", "completed": False, "messages": [["execution_error", error]]}
    return {"prompt": [], "outputs": {}, "status": status, "meta": {}}


def marked(value: Any, tag: str) -> Any:
    """The same, with the replica in `subfolder` of each of its files."""
    if isinstance(value, dict):
        done = {key: marked(one, tag) for key, one in value.items()}
        if is_file(value) and value["type"] != "input":
            done["subfolder"] = f"{FOLDER}{tag}/{value['subfolder']}".rstrip("/")
        return done
    return [marked(one, tag) for one in value] if isinstance(value, list) else value


def marked_message(value: str | bytes, tag: str) -> str | bytes:
    """A message of the WebSocket, its files marked."""
    return (
        json.dumps(marked(json.loads(value), tag))
        if isinstance(value, str) and '"executed"' in value
        else value
    )
