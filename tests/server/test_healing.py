"""A model that failed heals when a prompt can load it: its row and /ready show it.

A reload reports what it lacks.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.server.conftest import Comfy
from tests.support import models as tiny
from tests.support import prompts
from tests.support.comfy import ComfyServer
from tests.support.commands import carry_out
from tests.support.readings import hits, own_lines, rows

PRELOAD = """
models:
  - unet: late.safetensors
  - unet: cut.safetensors
  - vae: taesd3
"""
AGAIN = (
    "models:\n  - vae: taesd3\n  - unet: nowhere.safetensors\n  - {unet: nowhere.safetensors, name: twice}\n"
)


@pytest.fixture
def server(comfy: Comfy, own_models: Path) -> ComfyServer:
    folder = own_models / "diffusion_models"
    whole = tiny.tiny_unet(folder / "whole.safetensors", seed=9)
    (folder / "cut.safetensors").write_bytes(whole.read_bytes()[:-1000])
    return comfy(preload=PRELOAD, models=own_models)


def test_failed_models_heal_and_reload_reports(server: ComfyServer) -> None:
    """One was missing and one was cut at the start; both are there when a prompt asks."""
    folder = server.models / "diffusion_models"
    assert {"late": "file_missing", "cut": "file_truncated"} == {
        name: row["error"]["code"] for name, row in rows(server).items() if row["error"]
    }
    assert 503 == server.get("/ready").status

    tiny.tiny_unet(folder / "late.safetensors", seed=3)
    tiny.tiny_unet(folder / "cut.safetensors", seed=4)
    for name in ("late", "cut"):
        prompt = prompts.load("UNETLoader", unet_name=f"{name}.safetensors", weight_dtype="default")
        first = server.sink(prompt)["any"]
        server.run(prompts.unrelated())
        assert first["id"] == server.sink(prompt)["any"]["id"]
        assert rows(server)[name]["error"] is None
        assert rows(server)[name]["state"] in ("staged", "resident")
        assert 1 == hits(server)[name]
    assert (200, "ready") == (server.get("/ready").status, server.get("/ready").json["status"])

    tiny.tiny_unet(folder / "late.safetensors", seed=5)
    prompt = prompts.load("UNETLoader", unet_name="late.safetensors", weight_dtype="default")
    server.run(prompts.unrelated())
    old = server.sink(prompt)["any"]["weights"]
    tiny.tiny_unet(folder / "late.safetensors", seed=6)
    server.run(prompts.unrelated())
    assert old != server.sink(prompt)["any"]["weights"], "the file that came late is watched like any other"


def test_reload_while_failed(server: ComfyServer) -> None:
    """Nothing worked as a whole before, so the new plan is taken on.

    The job says what it lacks, each reason once.
    """
    (server.base / "preload.yaml").write_text(AGAIN, encoding="utf-8")

    job = carry_out(server, "reload")

    assert ("failed", "reload_lacks") == (job["state"], job["error"]["code"])
    message = job["error"]["message"]
    assert message.startswith(
        "the new plan is in place without 1 model: nowhere: nowhere.safetensors is in none of"
    )
    assert 1 == message.count("nowhere.safetensors")
    assert (["taesd3"], []) == (job["kept"], job["released"])
    assert {"total": 2, "ready": 1, "failed": 1, "not_preloaded": 0} == server.get("/ready").json["models"]
    assert any("failed: 1 model loaded, 1 failed (nowhere)" in line for line in own_lines(server))
