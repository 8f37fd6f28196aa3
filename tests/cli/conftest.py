"""Owns what these tests share.

A folder of model files, and ComfyUI's own code to find them, never started.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.cli.command import Done, run
from tests.support import models as tiny
from tools.host import comfyui_path

Cli = Callable[..., Done]


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base directory with one tiny model of each kind. Not to be written to."""
    base = tmp_path_factory.mktemp("base")
    models = base / "models"
    tiny.tiny_unet(models / "diffusion_models" / "tiny.safetensors")
    tiny.tiny_unet(models / "diffusion_models" / "sub" / "other.safetensors", seed=1)
    tiny.tiny_checkpoint(models / "checkpoints" / "tiny.safetensors")
    tiny.tiny_vae(models / "vae" / "tiny.safetensors")
    tiny.tiny_taesd(models / "vae_approx", "taesd")
    tiny.tiny_upscaler(models / "upscale_models" / "tiny.safetensors")
    return base


@pytest.fixture
def cli(base: Path, tmp_path: Path) -> Cli:
    """Runs `check` or `plan` over these models: `cli("check", "--json", preload="models: […]")`."""

    def start(
        command: str,
        *words: object,
        preload: str | None = None,
        at: Path | None = None,
        env: Mapping[str, str | Path] | None = None,
    ) -> Done:
        config = tmp_path / "preload.yaml"
        if preload is not None:
            config.write_text(preload, encoding="utf-8")
        given = {"COMFYUI_PATH": comfyui_path(), "PRELOAD_CONFIG": config, **(env or {})}
        return run(command, "--base-directory", at or base, *words, env=given)

    return start
