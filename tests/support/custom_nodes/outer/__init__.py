"""Another plugin's wrapper around loader nodes: on UNETLoader at import, below ours, and later above it.

Runs inside ComfyUI. Written as such plugins are: without functools.wraps, the signature lost.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from aiohttp import web
from server import PromptServer

import nodes

NODE_CLASS_MAPPINGS: dict[str, type] = {}

_seen: Counter[str] = Counter({"below": 0, "above": 0})


def _put_around(cls: type[Any], place: str) -> Callable[[], None]:
    before: Callable[..., Any] = getattr(cls, cls.FUNCTION)

    def wrapper(*args: Any, **given: Any) -> Any:
        _seen[place] += 1
        return before(*args, **given)

    setattr(cls, cls.FUNCTION, wrapper)
    return lambda: setattr(cls, cls.FUNCTION, before)


_put_around(nodes.UNETLoader, "below")


@PromptServer.instance.routes.post("/outer/wrap")
async def _wrap(_: web.Request) -> web.Response:
    _put_around(nodes.UNETLoader, "above")
    return web.json_response({})


@PromptServer.instance.routes.get("/outer")
async def _count(_: web.Request) -> web.Response:
    return web.json_response(_seen)
