"""The routes on ComfyUI's port: `queries.py` answers GET requests; commands go through `access.py`.

ComfyUI also registers each route under `/api` (`PromptServer.add_routes`, server.py 0.3.75).
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import os
import re
from collections.abc import Callable
from functools import partial
from typing import Any

from aiohttp import web

from comfy_preload.api import access
from comfy_preload.api import json_bodies as body
from comfy_preload.api.queries import (
    PREFIX,
    QUESTIONS,
    Answer,
    FleetView,
    Headers,
    answer,
    as_json,
    error,
    options,
    unauthorized,
)
from comfy_preload.core.errors import PreloadError, problem
from comfy_preload.core.log import log
from comfy_preload.core.settings.glance import CommandsMode
from comfy_preload.core.state.jobs import Command, Door
from comfy_preload.core.state.snapshot import Snapshot
from comfy_preload.core.state.tally import Tally

MAX_BYTES = 64 << 10
"""Maximum bytes of the body of a command."""
MAX_GRAPH_BYTES = 4 << 20
"""Maximum bytes of the body with a graph."""
BODY_TIMEOUT = 10.0
"""Seconds within which a body must arrive."""

_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]{1,100}){1,8}")

_RESULTS = {401: "unauthorized", 403: "forbidden", 429: "too_many"}
"""What the log and the metric call an answer; the others are `accepted` or `rejected`."""


def register(
    routes: web.RouteTableDef,
    snapshot: Callable[[], Snapshot],
    door: Door,
    *,
    fleet: Callable[[], FleetView | None] = lambda: None,
    mode: Callable[[], CommandsMode] = lambda: CommandsMode.LOOPBACK,
    tally: Tally | None = None,
) -> None:
    """Add the routes to a table.

    Args:
        routes: The table.
        snapshot: Called for each request.
        door: Accepts the commands.
        fleet: Called for each request.
        mode: Called for each command: who may send it.
        tally: Counts the commands.
    """

    async def question(request: web.Request) -> web.Response:
        url = request.rel_url
        headers = Headers(
            request.headers.get("Accept", ""), tuple(request.headers.getall("Authorization", ()))
        )
        return _response(answer(url.raw_path, url.raw_query_string, snapshot(), fleet(), headers))

    async def allowed(_: web.Request) -> web.Response:
        return _response(options())

    for path in QUESTIONS:  # by default aiohttp does not match names with braces
        pattern = path.replace("}", ":[^/]+}")
        routes.get(pattern)(question)
        routes.options(pattern)(allowed)
    commands = CommandRoutes(door, snapshot, partial(access.token_from, os.environ), mode, tally or Tally())
    for command in Command:
        routes.post(f"/preload/{command.value}")(partial(commands.take, command))
    routes.post("/preload/entries")(commands.entries)


class CommandRoutes:
    """Authorise, parse and queue commands."""

    def __init__(
        self,
        door: Door,
        snapshot: Callable[[], Snapshot],
        token: Callable[[], bytes],
        mode: Callable[[], CommandsMode],
        tally: Tally,
    ) -> None:
        """Ask for token and mode at each command: they may change while the process runs."""
        self._door = door
        self._snapshot = snapshot
        self._token = token
        self._mode = mode
        self._tally = tally
        self._allowed = access.Bucket(access.MAX_COMMANDS_PER_MINUTE)
        self._refused = access.Bucket(access.MAX_REFUSALS_PER_MINUTE)
        """A separate bucket: a flood of wrong tokens does not lock out the right one."""

    async def take(self, command: Command, request: web.Request) -> web.Response:
        return self._noted(command.value, request, await self._answer(command, request))

    async def entries(self, request: web.Request) -> web.Response:
        """Return the entries for the graph in the body; with `If-Match`, add them to the file."""
        return self._noted("entries", request, await self._lines(request))

    async def _lines(self, request: web.Request) -> Answer:
        if refused := self._refusal(request):
            return refused
        tag = request.headers.get("If-Match", "").strip('"') or None
        try:
            graph = _graph(await _read(request, MAX_GRAPH_BYTES))
            text, now = await asyncio.to_thread(self._door.entries, graph, tag)
        except _BadRequestError as bad:
            return bad.answer()
        except PreloadError as refused:
            return error(refused.problem)
        headers = {
            "Content-Type": "text/plain; charset=utf-8",
            "Cache-Control": "no-store",
            "ETag": f'"{now}"',
        }
        return Answer(200, text.encode(), {**headers, "X-Content-Type-Options": "nosniff"})

    def _noted(self, command: str, request: web.Request, given: Answer) -> web.Response:
        """Write the audit line and count the command. A flood is counted and not written."""
        result = _RESULTS.get(given.status, "accepted" if given.status < 400 else "rejected")
        self._tally.command(command, result)
        if result != "too_many":
            level = logging.INFO if result == "accepted" else logging.WARNING
            log.log(
                level, "command %s from %s: %s (HTTP %d)", command, _facts(request).peer, result, given.status
            )
        return _response(given)

    def _refusal(self, request: web.Request) -> Answer | None:
        token, mode = self._token(), self._mode()
        reason = access.refusal(_facts(request), token, mode)
        bucket = self._refused if reason else self._allowed
        if wait := bucket.take():
            too_many = problem("too_many_commands", expected=bucket.size)
            return error(too_many, {"Retry-After": str(math.ceil(wait))})
        if not reason:
            return None
        refused = problem("command_refused", reason=reason)
        return unauthorized(refused, has_token=bool(token) and mode is not CommandsMode.OFF)

    async def _answer(self, command: Command, request: web.Request) -> Answer:
        if refused := self._refusal(request):
            return refused
        try:
            job = self._door.order(command, _model(command, await _read(request)))
        except _BadRequestError as bad:
            return bad.answer()
        except PreloadError as refused:
            early = refused.problem.code == "command_too_early"
            headers = {"Retry-After": str(body.retry_after(self._snapshot()))} if early else None
            return error(refused.problem, headers)
        prefix = _outside(request) + (PREFIX if request.path.startswith(PREFIX + "/") else "")
        return as_json(202, body.job(job), {"Location": f"{prefix}/preload/jobs/{job.id}"})


class _BadRequestError(Exception):
    def __init__(self, status: int, found: str, expected: str) -> None:
        super().__init__(found)
        self._status = status
        self._found = found
        self._expected = expected

    def answer(self) -> Answer:
        wrong = problem("bad_request", found=self._found, expected=self._expected)
        return error(wrong, status=self._status)


async def _read(request: web.Request, most: int = MAX_BYTES) -> Any:
    """Return the body as JSON, or an empty mapping without a body."""
    if "Content-Encoding" in request.headers:
        raise _BadRequestError(415, "encoded", "plain application/json")
    too_large = _BadRequestError(413, "too large", f"at most {most} bytes")
    if (request.content_length or 0) > most:
        raise too_large
    try:
        data = await asyncio.wait_for(_up_to(request, most + 1), BODY_TIMEOUT)
    except asyncio.TimeoutError:
        raise _BadRequestError(408, "late", f"the whole body within {BODY_TIMEOUT:.0f} s") from None
    except web.RequestPayloadError:
        raise _BadRequestError(400, "incomplete", "the whole body, in the encoding of its headers") from None
    if len(data) > most:
        raise too_large
    if not data:
        return {}
    if (
        request.content_type != "application/json"
    ):  # without a body the type has no meaning, and many clients send one
        raise _BadRequestError(415, "of another type", "application/json")
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise _BadRequestError(400, "not JSON", "a mapping such as {'model': 'name'}, or no body") from None


async def _up_to(request: web.Request, most: int) -> bytes:
    data = bytearray()
    while len(data) < most and (chunk := await request.content.read(most - len(data))):
        data += chunk
    return bytes(data)


def _model(command: Command, content: Any) -> str | None:
    """Return the model that the command is for, or None for all."""
    if not isinstance(content, dict):
        raise _BadRequestError(400, "not a mapping", "a mapping such as {'model': 'name'}, or no body")
    if not content:
        return None
    if not command.takes_model:
        raise _BadRequestError(400, "not empty", f"none: {command.value} is for all models at once")
    model = content.get("model")
    if content.keys() != {"model"} or not isinstance(model, str) or not model:
        raise _BadRequestError(400, "a mapping with other keys", "the one key 'model' with a name")
    return model


def _graph(content: Any) -> dict[str, Any]:
    prompt = content.get("prompt") if isinstance(content, dict) else None
    if not isinstance(prompt, dict) or not prompt or not all(map(_is_node, prompt.values())):
        raise _BadRequestError(
            400, "a mapping with other keys", "the key 'prompt' with a graph in API format"
        )
    return prompt


def _is_node(node: Any) -> bool:
    return (
        isinstance(node, dict)
        and isinstance(node.get("class_type"), str)
        and isinstance(node.get("inputs", {}), dict)
    )


def _outside(request: web.Request) -> str:
    """Return what a proxy took off the front of the path, as X-Forwarded-Prefix says; Traefik sends it."""
    given = request.headers.get("X-Forwarded-Prefix", "").rstrip("/")
    return given if _PREFIX.fullmatch(given) else ""


def _facts(request: web.Request) -> access.Facts:
    peer: Any = request.transport.get_extra_info("peername") if request.transport else None

    def all_of(name: str) -> tuple[str, ...]:
        return tuple(request.headers.getall(name, ()))

    return access.Facts(
        peer=str(peer[0]) if isinstance(peer, tuple) and peer else None,
        host=all_of("Host"),
        origin=all_of("Origin"),
        fetch_site=all_of("Sec-Fetch-Site"),
        authorization=all_of("Authorization"),
        forwarded=request.version < (1, 1) or any(access.is_forwarding(name) for name in request.headers),
    )


def _response(given: Answer) -> web.Response:
    return web.Response(status=given.status, body=given.body, headers=given.headers)
