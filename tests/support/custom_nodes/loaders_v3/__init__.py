"""V3 loader nodes, registered by an entry point.

Runs inside ComfyUI. Each says in the log what it built, so a test can count.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path

import folder_paths
from comfy_api.latest import ComfyExtension, io

log = logging.getLogger("loaders_v3")

log.info(
    "loaders_v3: imported %s the plugin",
    "after" if any("comfyui-preload" in name for name in sys.modules) else "before",
)


class Stone:
    """Something loaded."""

    def __init__(self, loader: str, content: object) -> None:
        self.content = content
        log.info("%s built a stone of %s", loader, content)


def _schema(name: str) -> io.Schema:
    inputs = [
        io.Combo.Input("file", options=folder_paths.get_filename_list("vae")),
        io.Int.Input("number", default=3),
        io.String.Input("note", default="", optional=True),
    ]
    return io.Schema(node_id=name, category="tests", inputs=inputs, outputs=[io.Custom("STONE").Output()])


class TestV3Loader(io.ComfyNode):
    """A plain node with an alias of its function, as some of ComfyUI's have; the alias must not change."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return _schema("TestV3Loader")

    @classmethod
    def execute(cls, file: str, number: int, note: str = "") -> io.NodeOutput:
        size = Path(folder_paths.get_full_path_or_raise("vae", file)).stat().st_size
        return io.NodeOutput(Stone("TestV3Loader", (size, number, note)))

    load = execute


class TestV3AsyncLoader(io.ComfyNode):
    """A node whose function is a coroutine."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return _schema("TestV3AsyncLoader")

    @classmethod
    async def execute(cls, file: str, number: int, note: str = "") -> io.NodeOutput:
        content = await asyncio.to_thread(Path(folder_paths.get_full_path_or_raise("vae", file)).read_bytes)
        return io.NodeOutput(Stone("TestV3AsyncLoader", (len(content), number, note)))


class TestV3HeirLoader(TestV3Loader):
    """A node that inherits its function: intercepting it must not intercept its parent."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return _schema("TestV3HeirLoader")


class _Extension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [TestV3Loader, TestV3AsyncLoader, TestV3HeirLoader]


async def comfy_entrypoint() -> ComfyExtension:
    return _Extension()
