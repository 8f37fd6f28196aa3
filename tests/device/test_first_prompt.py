"""The promise on an accelerator.

After the preload the first prompt finds its weights there, and copies none.
"""

from __future__ import annotations

import pytest

from tests.device.conftest import OnDevice
from tests.support import prompts
from tests.support.device import MB, Device

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
