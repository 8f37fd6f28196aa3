"""ComfyUI's own caches and flags neither lose what is loaded nor are lost by it."""

from __future__ import annotations

import pytest

from tests.server.conftest import Comfy, fill
from tests.support import prompts
from tests.support.comfy import ComfyServer
from tests.support.readings import hits, misses, poison, rows

PRELOAD = """
models:
  - unet: tiny.safetensors
  - clip: clip_l.safetensors
    type: sd3
  - vae: taesd3
"""
READ = (
    *("diffusion_models/tiny.safetensors", "text_encoders/clip_l.safetensors"),
    *("vae_approx/taesd3_encoder.safetensors", "vae_approx/taesd3_decoder.safetensors"),
)
FLAGS = [["--cache-none"], ["--cache-lru", "10", "--multi-user"], ["--disable-smart-memory"]]


@pytest.fixture(scope="module", params=FLAGS, ids=" ".join)
def flags(request: pytest.FixtureRequest) -> list[str]:
    chosen: list[str] = request.param
    return chosen


@pytest.fixture(scope="module")
def server(flags: list[str], module_comfy: Comfy, tmp_path_factory: pytest.TempPathFactory) -> ComfyServer:
    models = fill(tmp_path_factory.mktemp("flags") / "models")
    server = module_comfy(preload=PRELOAD, models=models, args=flags)
    server.wait_ready()
    poison(models, READ)
    return server


def test_images_without_reading(server: ComfyServer, flags: list[str]) -> None:
    """Prompts run on models whose files can no longer be read, each a hit, also after other workflows.

    A cache of ten outputs answers the second time by itself.
    """
    for seed in (1, 2):
        before = hits(server)
        entry = server.run(prompts.image(vae="taesd3", seed=seed))
        assert 1 == len(entry["outputs"]["preview"]["images"])
        asked = {name: count - before[name] for name, count in hits(server).items()}
        assert dict.fromkeys(before, 0 if "--cache-lru" in flags and seed == 2 else 1) == asked
        server.run(prompts.unrelated(color=seed))

    assert {} == misses(server)
    assert 200 == server.get("/ready").status


def test_weights_are_where_the_flag_wants_them(server: ComfyServer, flags: list[str]) -> None:
    """--disable-smart-memory takes all weights off the device after each prompt, so none were moved there.

    That is not an eviction, also if the watchdog (every 2 s) sees them there while a prompt runs. Others
    leave them.
    """
    away = "--disable-smart-memory" in flags
    prompt = prompts.image(vae="taesd3", seed=9)
    prompt["sampler"]["inputs"]["steps"] = 500 if away else 1
    server.run(prompt)

    server.wait(
        lambda: rows(server)["tiny"]["state"] == ("staged" if away else "resident"), "settled", deadline=20
    )
    assert {0} == {row["evictions"] for row in rows(server).values()}
    assert (200, 200) == (server.get("/ready").status, server.get("/ready/tiny").status)
