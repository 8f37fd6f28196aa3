"""Warm-ups by profile: for which shapes a model is warm, what was measured, and one that does not end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.server.conftest import Comfy
from tests.server.test_own_prompts import PAUSE, open_gate
from tests.server.test_own_prompts import WORKFLOW as PAUSING
from tests.server.test_workflows import left_behind, place, warmups
from tests.support import prompts
from tests.support.comfy import ComfyServer
from tests.support.commands import carry_out
from tests.support.readings import hits

VERIFIED = """
workflows:
  - path: image.json
    warmup: true
    verify: true
    shapes: [{width: 64, height: 64}, {width: 128, height: 64}]
  - {path: other.json, warmup: true, shapes: [{width: 64, height: 128}]}
"""
SHAPES = ["64x64, batch 1", "128x64, batch 1"]


@pytest.fixture(scope="module")
def verified(module_comfy: Comfy, tmp_path_factory: pytest.TempPathFactory) -> ComfyServer:
    """A server that has measured its warm-ups."""
    files: dict[str, Any] = {
        "preload.yaml": VERIFIED,
        "image.json": prompts.image(),
        "other.json": prompts.image(text="a ship"),
    }
    server = module_comfy(env=place(tmp_path_factory.mktemp("verified"), files))
    server.wait_ready()
    return server


def test_measured(verified: ComfyServer) -> None:
    """Each shape has a first and a steady time, and the state that follows from them."""
    found = warmups(verified)
    profiles = found["image.json"]["profiles"]

    assert SHAPES == [one["shape"] for one in profiles]
    for one in profiles:
        assert one["seconds"] > 0
        assert one["first"] > 0
        assert one["steady"] > 0
        assert ("warm" if one["ratio"] <= 1.05 else "degraded") == one["state"]
    states = {one["state"] for one in profiles}
    assert ("degraded" if "degraded" in states else "warm") == found["image.json"]["state"]
    assert [("warm", None)] == [(one["state"], one["ratio"]) for one in found["other.json"]["profiles"]]
    assert found["image.json"]["state"] == "warm" or verified.get("/ready").json["status"] == "degraded"
    assert 200 == verified.get("/ready").status


def test_measured_without_the_cache(verified: ComfyServer) -> None:
    """ComfyUI's cache answers none of the measured runs.

    The loaders are called by the first warm-up and by the four of them.
    """
    assert {"tiny": 5, "clip_l": 5} == hits(verified)
    assert {} == verified.get("/history").json
    assert [] == left_behind(verified)


def test_warm_for(verified: ComfyServer) -> None:
    """The row of a model has every shape for which it is warm.

    Also those of a workflow whose loaders ComfyUI's cache answered.
    """
    profiles = [one for row in warmups(verified).values() for one in row["profiles"]]
    expected = [one["shape"] for one in profiles if one["state"] == "warm"]
    row = verified.get("/ready/tiny").json

    assert ("warm", expected) == (row["state"], row["warm_for"])
    assert "64x128, batch 1" in row["warm_for"]
    metrics = verified.get("/preload/metrics").text
    assert f'comfyui_preload_warmup_ratio{{shape="{SHAPES[0]}",warmup="image.json"}}' in metrics


def test_one_that_does_not_end(comfy: Comfy, tmp_path: Path) -> None:
    """A node that does not react is not waited for: cut off at the limit, what comes after it is left out.

    A reload runs both when it has ended.
    """
    text = """
workflows:
  - {path: pause.json, warmup: true, limit: 1, required: false}
  - {path: image.json, warmup: true}
"""
    files: dict[str, Any] = {"preload.yaml": text, "pause.json": PAUSING, "image.json": prompts.image()}
    server = comfy(env=place(tmp_path, files), custom_nodes=PAUSE)
    server.wait_ready()
    found = warmups(server)
    assert ("failed", "warmup_too_long") == (
        found["pause.json"]["state"],
        found["pause.json"]["error"]["code"],
    )
    assert ("degraded", "warmup_left_out") == (
        found["image.json"]["state"],
        found["image.json"]["error"]["code"],
    )
    assert "degraded" == server.get("/ready").json["status"]
    assert [] == server.get("/ready/tiny").json["warm_for"]

    open_gate(server)
    server.run(prompts.unrelated())
    carry_out(server, "reload")
    assert {"pause.json": "warm", "image.json": "warm"} == {
        name: row["state"] for name, row in warmups(server).items()
    }
    assert ["64x64, batch 1"] == server.get("/ready/tiny").json["warm_for"]
