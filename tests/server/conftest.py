"""Owns the servers that these tests talk to.

Real ComfyUIs, started by a factory and stopped whatever happens.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support import models as tiny
from tests.support.comfy import SINK, ComfyServer
from tests.support.fork_server import is_cold
from tools.host import comfyui_path, comfyui_python

Comfy = Callable[..., ComfyServer]


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder with one tiny model of each kind.

    Shared by all servers: do not write to it, see `own_models`.
    """
    return fill(tmp_path_factory.mktemp("shared") / "models")


@pytest.fixture(scope="module")
def module_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same models again, files of their own for the tests of one module, which may write into them."""
    return fill(tmp_path_factory.mktemp("module") / "models")


@pytest.fixture
def own_models(models: Path, tmp_path: Path) -> Path:
    """The same models for one test alone, which may replace, remove and add files, not write into one.

    The files are hard links.
    """
    return Path(shutil.copytree(models, tmp_path / "own" / "models", copy_function=os.link))


@pytest.fixture
def comfy(
    request: pytest.FixtureRequest, models: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Comfy]:
    """Start a ComfyUI: `comfy(preload="…", args=["--cache-none"])`, arguments as for ComfyServer.

    Stopped after the test.
    """
    with _factory(models, tmp_path_factory, forked=not is_cold(request)) as start:
        yield start


@pytest.fixture(scope="module")
def module_comfy(
    request: pytest.FixtureRequest, models: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Comfy]:
    """The same for fixtures of module scope: one server for all tests of a file."""
    with _factory(models, tmp_path_factory, forked=not is_cold(request)) as start:
        yield start


@contextmanager
def _factory(models: Path, tmp_path_factory: pytest.TempPathFactory, *, forked: bool) -> Iterator[Comfy]:
    with ExitStack() as servers:

        def start(*, wait: bool = True, **options: Any) -> ComfyServer:
            """Wait until it listens, unless asked not to.

            Every server has the Sink node and the shared models.
            """
            nodes = {"sink": SINK, **options.pop("custom_nodes", {})}
            arguments: dict[str, Any] = {
                "models": models,
                "custom_nodes": nodes,
                "forked": forked,
                **options,
            }
            base = tmp_path_factory.mktemp("comfy")
            server = ComfyServer(base, host=comfyui_path(), python=comfyui_python(), **arguments)
            servers.enter_context(server)
            if wait:
                server.wait_listening()
            return server

        yield start


def fill(folder: Path) -> Path:
    tiny.tiny_unet(folder / "diffusion_models" / "tiny.safetensors")
    tiny.tiny_unet(folder / "diffusion_models" / "other.safetensors", seed=1)
    tiny.tiny_checkpoint(folder / "checkpoints" / "tiny.safetensors")
    tiny.tiny_clip(folder / "text_encoders" / "clip_l.safetensors")
    tiny.tiny_vae(folder / "vae" / "tiny.safetensors")
    tiny.tiny_lora(folder / "loras" / "tiny.safetensors")
    tiny.tiny_taesd(folder / "vae_approx", "taesd")
    tiny.tiny_taesd(folder / "vae_approx", "taesd3")
    tiny.tiny_upscaler(folder / "upscale_models" / "tiny.safetensors")
    return folder
