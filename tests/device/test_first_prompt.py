"""The promise on an accelerator.

After the preload the first prompt finds its weights there, and copies none.
"""

from __future__ import annotations

import pytest

from tests.device.conftest import OnDevice
from tests.support import prompts
from tests.support.comfy import ComfyServer
from tests.support.commands import carry_out
from tests.support.device import MB, Device
from tests.support.readings import rows

pytestmark = pytest.mark.cold

PRELOAD = """
models:
  - unet: first.safetensors
  - {clip: clip_l.safetensors, type: sd3}
  - vae: taesd3
"""


@pytest.fixture(scope="module")
def device(module_on_device: OnDevice) -> Device:
    started = module_on_device(preload=PRELOAD)
    started.server.wait_ready()
    return started


def test_first_prompt_copies_no_weights(device: Device) -> None:
    """Three models are held.

    A prompt copies its inputs, less than 2 %; the same after a workflow without them.
    """
    held = device.held
    assert held > 300 * MB
    for seed in (1, 2):
        before = device["h2d_bytes"]
        device.server.run(prompts.image(unet="first.safetensors", vae="taesd3", seed=seed))
        assert device["h2d_bytes"] - before < held // 50
        device.server.run(prompts.unrelated(color=seed))
    assert abs(device.held - held) < held // 50


def test_uploaded(device: Device) -> None:
    """`explain` has the bytes that a prompt brought to the device: all of a model that slept, then none."""
    server = device.server
    carry_out(server, "sleep")
    asleep = uploaded(server, 3)
    carry_out(server, "wake")
    awake = uploaded(server, 4)

    size = rows(server)["first"]["bytes"]
    assert 0.98 * size < asleep["first"] <= size
    assert {"first": 0, "clip_l": 0, "taesd3": 0} == awake


def uploaded(server: ComfyServer, seed: int) -> dict[str, int]:
    """Run a prompt after one without models, and return the bytes by model."""
    server.run(prompts.unrelated(color=seed))
    prompt_id = server.queue(prompts.image(unet="first.safetensors", vae="taesd3", seed=seed))
    server.result(prompt_id)
    path = f"/preload/explain/{prompt_id}"
    server.wait(lambda: (server.get(path).json or {}).get("state") == "done", "done with its evidence")
    return {use["model"]: use["uploaded"] for use in server.get(path).json["loaders"]}
