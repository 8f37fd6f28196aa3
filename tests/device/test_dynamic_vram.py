"""Dynamic VRAM (ComfyUI 0.33.0).

Only a forward pass brings weights to the device, so a state is what was measured after one.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.device.conftest import OnDevice
from tests.support import prompts
from tests.support.commands import carry_out
from tests.support.device import MB, Device
from tests.support.readings import rows

pytestmark = pytest.mark.dynamic_vram
MODELS = """
models:
  - unet: first.safetensors
  - {clip: clip_l.safetensors, type: sd3}
  - vae: taesd3
"""
PROMPT = prompts.image(unet="first.safetensors", vae="taesd3")
PAGE = 32 * MB


def states(device: Device) -> dict[str, str]:
    return {name: row["state"] for name, row in rows(device.server).items()}


def agree(device: Device) -> bool:
    """What is said is what is held, but for what a prompt leaves behind of its own."""
    return abs(device.said - device.held) <= device.held // 50 + 4 * MB


def test_warm_is_measured(on_device: OnDevice, tmp_path: Path) -> None:
    """Gone after sleep and after POST /free.

    `wake` runs the warm-up again, and is done when all of it is back.
    """
    (tmp_path / "preload.yaml").write_text(
        f"{MODELS}workflows:\n  - {{path: warm-up.json, warmup: true}}\n", encoding="utf-8"
    )
    (tmp_path / "warm-up.json").write_text(json.dumps(PROMPT), encoding="utf-8")
    device = on_device(preload="", dynamic=True, env={"PRELOAD_CONFIG": str(tmp_path / "preload.yaml")})
    server = device.server
    server.wait_ready()
    assert {"warm"} == set(states(device).values())
    assert agree(device)
    held = device.held
    assert held > 300 * MB

    assert "done" == carry_out(server, "sleep")["state"]
    assert {"evicted"} == set(states(device).values())
    assert (503, "sleeping") == (server.get("/ready").status, server.get("/ready").json["status"])
    assert device.held < 8 * MB

    assert "done" == carry_out(server, "wake")["state"]
    assert {"warm"} == set(states(device).values())
    assert abs(device.held - held) < PAGE
    before = device["h2d_bytes"]
    server.run(prompts.image(unet="first.safetensors", vae="taesd3", seed=5))
    assert device["h2d_bytes"] - before < 8 * MB

    server.post("/free", {"unload_models": True})
    server.wait(lambda: set(states(device).values()) == {"evicted"}, "off the device", deadline=20)


def test_wake_without_a_warm_up(on_device: OnDevice) -> None:
    """What prompts had brought to the device does not come back by a push: the job says so."""
    device = on_device(preload=MODELS, dynamic=True)
    server = device.server
    server.wait_ready()
    assert {"staged"} == set(states(device).values())
    assert agree(device)
    assert "done" == carry_out(server, "sleep")["state"]
    assert "done" == carry_out(server, "wake")["state"], "nothing was there to bring back"

    server.run(PROMPT)
    assert {"resident"} == set(states(device).values())
    assert agree(device)
    assert "done" == carry_out(server, "sleep")["state"]
    failed = carry_out(server, "wake")
    assert ("failed", "not_restored") == (failed["state"], failed["error"]["code"])
    assert 200 == server.get("/ready").status
    assert "done" == carry_out(server, "release")["state"]
    assert device.held < 8 * MB
