"""The routes. Handlers take a snapshot and render it: no lock, no disk, no device.

ComfyUI registers each route under `/api` too (`PromptServer.add_routes`, server.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiohttp import web

from ..core.readiness import Snapshot
from . import body

_NO_STORE = {"Cache-Control": "no-store"}


def register(routes: web.RouteTableDef, snapshot: Callable[[], Snapshot]) -> None:
    """Add the routes to a table. `snapshot` is called once for each request."""

    @routes.get("/ready")
    async def ready(request: web.Request) -> web.Response:
        now = snapshot()
        verbose = "verbose" in request.query
        return _answer(body.ready(now, verbose=verbose), now, good=now.status.serves)

    @routes.get("/ready/{name}")
    async def ready_model(request: web.Request) -> web.Response:
        now = snapshot()
        name = request.match_info["name"]
        item = now.model(name)
        if item is None:
            known = [model.name for model in now.models][: body.MOST_FAILING]
            unknown = {"status": "unknown", "message": "no such model", "models": known}
            return web.json_response(unknown, status=404, headers=_NO_STORE)
        return _answer(body.model(item), now, good=item.state.loaded)

    @routes.get("/livez")
    async def livez(_: web.Request) -> web.Response:
        return web.json_response({"status": "alive"}, headers=_NO_STORE)

    @routes.get("/preload")
    async def preload(_: web.Request) -> web.Response:
        return web.json_response(body.everything(snapshot()), headers=_NO_STORE)


def _answer(content: dict[str, Any], now: Snapshot, *, good: bool) -> web.Response:
    headers = dict(_NO_STORE)
    if not good:
        headers["Retry-After"] = str(body.retry_after(now))
    return web.json_response(content, status=200 if good else 503, headers=headers)
