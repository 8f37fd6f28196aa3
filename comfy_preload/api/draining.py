"""A replica that drains takes no new prompts.

503 with Retry-After, so that a client or a gateway asks another one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.typedefs import Middleware

from comfy_preload.api.queries import PREFIX, error
from comfy_preload.core.errors import problem

RETRY_AFTER = 5
"""Seconds. Another replica, or this one's successor, may take the prompt sooner or later.

Nobody knows here.
"""
PATHS = frozenset({"/prompt", f"{PREFIX}/prompt"})

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def refuse_prompts(is_draining: Callable[[], bool], count: Callable[[], None]) -> Middleware:
    """Return a middleware for ComfyUI's application. `count` is called for each prompt that it refuses."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.method != "POST" or request.path not in PATHS or not is_draining():
            return await handler(request)
        count()
        refused = error(problem("draining"), {"Retry-After": str(RETRY_AFTER)})
        return web.Response(status=refused.status, body=refused.body, headers=refused.headers)

    return middleware
