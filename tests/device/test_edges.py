"""Models that are not to be pushed, and devices that have no memory of their own."""

from __future__ import annotations

import pytest

from tests.device.conftest import OnDevice
from tests.support.device import MB
from tests.support.readings import own_lines, rows

META = '''
"""A loader whose model is built without weights, as packs do that fill them in when a prompt uses it."""
import nodes

class MetaLoader:
    CATEGORY, FUNCTION, RETURN_TYPES = "tests", "load", ("MODEL",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"file": ("STRING", {})}}

    def load(self, file):
        model = nodes.UNETLoader().load_unet(file, "default")[0]
        model.model.to("meta")
        return (model,)

NODE_CLASS_MAPPINGS = {"MetaLoader": MetaLoader}
'''
LITTLE = '''
"""100 MB of main memory are available; the device has memory of its own, or is said to share that."""
import os
import psutil
import comfy.model_management as mm

real = psutil.virtual_memory
psutil.virtual_memory = lambda: real()._replace(available=100 << 20)
if os.environ["SHARED"] == "1":
    mm.vram_state = mm.VRAMState.SHARED
NODE_CLASS_MAPPINGS = {}
'''


def test_built_without_weights(on_device: OnDevice) -> None:
    """It is left where it is, without an error, and the entries beside it are on the device."""
    preload = """
models:
  - {loader: MetaLoader, inputs: {file: first.safetensors}, name: empty}
  - unet: second.safetensors
"""
    device = on_device(preload=preload, custom_nodes={"meta": META})
    device.server.wait_ready()

    states = {name: row["state"] for name, row in rows(device.server).items()}
    assert ("staged", "resident") == (states["empty"], states["second"])
    assert 60 * MB < device.held < 80 * MB, "the second one alone"
    assert not [line for line in own_lines(device.server) if "stays in RAM" in line]


@pytest.mark.parametrize("shared", [True, False])
def test_shared_memory_is_counted_once(on_device: OnDevice, *, shared: bool) -> None:
    """A plan that main memory alone cannot hold needs a device with memory of its own."""
    preload = "on_error: serve\nmodels: [{clip: clip_l.safetensors, type: sd3}]\n"
    device = on_device(preload=preload, custom_nodes={"little": LITTLE}, env={"SHARED": str(int(shared))})
    device.server.wait_ready()

    row = rows(device.server)["clip_l"]
    found = (row["state"], row["error"] and row["error"]["code"])
    assert (("failed", "too_big") if shared else ("resident", None)) == found
