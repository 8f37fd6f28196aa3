"""Routes with which a test inspects the process: which node classes have changed since this was imported.

Runs inside ComfyUI.
"""

from __future__ import annotations

import inspect
from typing import Any

from aiohttp import web
from server import PromptServer

import nodes

NODE_CLASS_MAPPINGS: dict[str, type] = {}


def _function(cls: type[Any]) -> str:
    return "execute" if hasattr(cls, "define_schema") else str(getattr(cls, "FUNCTION", ""))


def _attributes() -> dict[str, Any]:
    return {name: cls.__dict__.get(_function(cls)) for name, cls in nodes.NODE_CLASS_MAPPINGS.items()}


_AT_IMPORT = _attributes()


def _touched() -> list[str]:
    """Return classes whose own function is a different object than at import."""
    return sorted(
        name for name, value in _attributes().items() if name in _AT_IMPORT and value is not _AT_IMPORT[name]
    )


def _wrapped() -> list[str]:
    """Return classes whose function has `__wrapped__`."""
    functions = {
        name: inspect.getattr_static(cls, _function(cls), None)
        for name, cls in nodes.NODE_CLASS_MAPPINGS.items()
    }
    return sorted(
        name for name, value in functions.items() if hasattr(getattr(value, "__func__", value), "__wrapped__")
    )


@PromptServer.instance.routes.get("/window")
async def _look(_: web.Request) -> web.Response:
    return web.json_response({"touched": _touched(), "wrapped": _wrapped()})


@PromptServer.instance.routes.post("/window/unwatch")
async def _unwatch(_: web.Request) -> web.Response:
    """Remove the plugin's interceptors, as after a reload that needs none of these classes."""
    hooks = (getattr(hook, "__self__", None) for hook in PromptServer.instance.app.on_startup)
    owner: Any = next(one for one in hooks if hasattr(one, "order") or hasattr(one, "_preloader"))
    preloader: Any = getattr(owner, "_preloader", owner)
    preloader._loading.unwatch_others(())  # noqa: SLF001 — there is no public way to leave everything
    return web.json_response(_touched())
