"""Owns the servers of these tests: real ComfyUIs on a simulated accelerator.

Skipped where there can be none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support import models as tiny
from tests.support.comfy import SINK, ComfyServer
from tests.support.device import Device, aimdo_is_asked_for, options
from tests.support.fork_server import is_cold
from tools.host import comfyui_path, comfyui_python
from tools.simdev import CannotBuildError, library

OnDevice = Callable[..., Device]
HERE = Path(__file__).resolve().parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The device is built with a compiler: say what is missing instead of failing."""
    ours = [item for item in items if item.path.is_relative_to(HERE)]
    if not ours:
        return
    try:
        library(comfyui_python())
        missing = ""
    except CannotBuildError as error:
        missing = str(error)
    for item in ours:
        if missing:
            item.add_marker(pytest.mark.skip(reason=missing))
        elif item.get_closest_marker("dynamic_vram") and not aimdo_is_asked_for():
            item.add_marker(
                pytest.mark.skip(reason="this ComfyUI has no dynamic VRAM (COMFYUI_PATH names another)")
            )


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """UNets of 64 MB, a text encoder of 246 MB, small VAEs. Shared by all servers: do not write to it."""
    folder = tmp_path_factory.mktemp("device") / "models"
    for seed, name in enumerate(("first", "second", "third")):
        tiny.sd3_unet(folder / "diffusion_models" / f"{name}.safetensors", depth=6, seed=seed)
    tiny.tiny_clip(folder / "text_encoders" / "clip_l.safetensors")
    tiny.tiny_vae(folder / "vae" / "tiny.safetensors")
    tiny.tiny_taesd(folder / "vae_approx", "taesd3")
    return folder


@pytest.fixture
def on_device(
    request: pytest.FixtureRequest, models: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OnDevice]:
    """Start a ComfyUI on a device: `on_device(preload="…", megabytes=300, args=["--highvram"])`.

    Stopped after the test.
    """
    with _factory(models, tmp_path_factory, forked=not is_cold(request)) as start:
        yield start


@pytest.fixture(scope="module")
def module_on_device(
    request: pytest.FixtureRequest, models: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OnDevice]:
    """The same for fixtures of module scope."""
    with _factory(models, tmp_path_factory, forked=not is_cold(request)) as start:
        yield start


@contextmanager
def _factory(models: Path, tmp_path_factory: pytest.TempPathFactory, *, forked: bool) -> Iterator[OnDevice]:
    with ExitStack() as servers:

        def start(
            *,
            preload: str,
            wait: bool = True,
            megabytes: int = 16384,
            dynamic: bool = False,
            faults: dict[str, int] | None = None,
            **given: Any,
        ) -> Device:
            """Wait until it listens, unless asked not to. What is not for the device is for ComfyServer."""
            base = tmp_path_factory.mktemp("comfy")
            device = options(
                base, megabytes=megabytes, dynamic=dynamic, args=given.pop("args", ()), **(faults or {})
            )
            nodes = {"sink": SINK, **given.pop("custom_nodes", {})}
            arguments: dict[str, Any] = {
                "models": given.pop("models", models),
                "custom_nodes": nodes,
                "preload": preload,
                "forked": forked,
                **device,
            }
            arguments["env"] |= given.pop("env", {})
            server = ComfyServer(base, host=comfyui_path(), python=comfyui_python(), **arguments, **given)
            servers.enter_context(server)
            if wait:
                server.wait_listening()
            return Device(server, base)

        yield start
