"""Import a plugin folder as ComfyUI does, in a fresh interpreter; serve its routes; print the result as JSON.

    python -I load_as_comfyui.py FOLDER [--no-server] [PATH …]

ComfyUI is not there but for `server.PromptServer`, and neither is torch: importing it fails. Source: nodes.py
(`load_custom_node`), main.py (`execute_prestartup_script`) and server.py (`add_routes`) of ComfyUI 0.3.75.
"""

from __future__ import annotations

import asyncio
import gc
import importlib.util
import json
import logging
import os
import sys
import threading
import time
import types
from pathlib import Path
from typing import Any

# Modules that ComfyUI imports before any custom node.
import psutil
import yaml
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

IMPORTED = (psutil, yaml)


class PromptServer:
    """The parts of PromptServer that exist while custom nodes are imported."""

    instance: PromptServer

    def __init__(self) -> None:
        self.routes = web.RouteTableDef()
        self.app = web.Application()
        self.loop = asyncio.new_event_loop()


class Lines(logging.Handler):
    """Collect log records."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.levelname} {record.getMessage()}")


def run(name: str, file: Path) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


async def ask(server: PromptServer, paths: list[str]) -> dict[str, tuple[int, Any]]:
    mirrored = web.RouteTableDef()
    for route in server.routes:
        if isinstance(route, web.RouteDef):
            mirrored.route(route.method, "/api" + route.path)(route.handler, **route.kwargs)
    server.app.add_routes(mirrored)
    server.app.add_routes(server.routes)
    answers: dict[str, tuple[int, Any]] = {}
    async with TestClient(TestServer(server.app)) as client:
        for path in paths:
            reply = await client.get(path)
            answers[path] = (reply.status, await reply.json())
    return answers


def main(folder: Path, paths: list[str], *, with_server: bool) -> None:
    sys.modules["torch"] = None  # pyright: ignore[reportArgumentType] — makes `import torch` fail
    stub: Any = types.ModuleType("server")
    stub.PromptServer = PromptServer
    server = PromptServer()
    if with_server:
        PromptServer.instance = server
    sys.modules["server"] = stub
    log = Lines()
    logging.getLogger().addHandler(log)
    logging.getLogger().setLevel(logging.INFO)

    hooks = len(server.app.on_startup)  # aiohttp's own
    environment = dict(os.environ)
    before = set(sys.modules)
    run("custom_node_prestartup", folder / "prestartup_script.py")
    began = time.perf_counter()
    module = run(str(folder).replace(".", "_x_"), folder / "__init__.py")
    seconds = time.perf_counter() - began

    there: dict[str, types.ModuleType | None] = dict(sys.modules)
    found = {
        "seconds": seconds,
        "imported": sorted(sys.modules.keys() - before),
        "mappings": {
            name: sorted(getattr(module, name)) for name in vars(module) if name.startswith("NODE_")
        },
        "modules": sorted(name for name, value in there.items() if value is not None and "." not in name),
        "threads": [t.name for t in threading.enumerate() if t is not threading.main_thread()],
        "routes": [r.path for r in server.routes if isinstance(r, web.RouteDef)],
        "on_startup": len(server.app.on_startup) - hooks,
        "collector": (gc.isenabled(), gc.get_freeze_count()),
        "path": sys.path,
        "environment": sorted(dict(os.environ).items() ^ environment.items()),
        "log": list(log.lines),
        "answers": asyncio.run(ask(server, paths)) if paths else {},
    }
    print(json.dumps(found))  # noqa: T201 — the answer


if __name__ == "__main__":
    words = sys.argv[2:]
    main(Path(sys.argv[1]), [w for w in words if w != "--no-server"], with_server="--no-server" not in words)
