"""A lost device is found wherever it is met, on every platform.

Running out of memory is not one, and costs one model.
"""

from __future__ import annotations

import pytest

from tests.device.conftest import OnDevice
from tests.support import prompts
from tests.support.comfy import PromptFailedError
from tests.support.commands import carry_out, order
from tests.support.device import FAULTS, MB, Device
from tests.support.readings import CUSTOM_NODES, own_lines, rows

GATE = "  - {loader: TestGateLoader, inputs: {gate: open}, name: gate, required: false}\n"
MODELS = """
  - unet: first.safetensors
  - {clip: clip_l.safetensors, type: sd3}
  - vae: taesd3
"""
PRELOAD = f"when: background\nmodels:\n{GATE}{MODELS}"
LOADERS = {"loaders": CUSTOM_NODES / "loaders"}
PROMPT = prompts.image(unet="first.safetensors", vae="taesd3")


def at_gate(on_device: OnDevice, megabytes: int = 16384) -> Device:
    """A device whose preload waits before its first model."""
    device = on_device(preload=PRELOAD, custom_nodes=LOADERS, megabytes=megabytes)
    device.server.wait(lambda: "waiting at gate open" in device.server.log, "at the gate")
    return device


def open_gate(device: Device) -> None:
    (device.server.base / "input" / "open").touch()


def states(device: Device) -> dict[str, str]:
    return {name: row["state"] for name, row in rows(device.server).items() if name != "gate"}


@pytest.mark.parametrize(
    ("met_by", "platform"),
    [("push", "NPU"), ("prompt", "CUDA"), ("sleep", "XPU"), ("wake", "HIP"), ("release", "CUDA")],
)
def test_lost_device(on_device: OnDevice, met_by: str, platform: str) -> None:
    """/livez and /ready are 503 for good, and what met it has failed."""
    device = at_gate(on_device)
    server = device.server
    if met_by != "push":
        open_gate(device)
        server.wait_ready()
    if met_by == "wake":
        assert "done" == carry_out(server, "sleep")["state"]
    device.set(fault=FAULTS[platform])
    if met_by == "push":
        open_gate(device)
    elif met_by == "prompt":
        with pytest.raises(PromptFailedError):
            server.run(PROMPT)
    else:
        order(server, met_by)
    server.wait(lambda: server.get("/livez").status == 503, "not alive any more", deadline=30)
    ready = server.get("/ready")
    assert ready.status == 503
    assert ready.json["status"] in ("failed", "unresponsive")  # the device's end may end the worker as well
    assert server.get("/livez").json["fault"]["code"] in ("device_fault", "prompt_worker_ended")


def test_lost_while_nothing_runs(on_device: OnDevice) -> None:
    """ComfyUI asks the device after each prompt, outside of it.

    What that raises ends the thread that runs prompts.
    """
    device = at_gate(on_device)
    open_gate(device)
    device.server.wait_ready()
    device.set(fault=FAULTS["CUDA"])
    device.server.post("/free", {"free_memory": True})
    device.server.wait(lambda: device.server.get("/livez").status == 503, "not alive any more", deadline=30)
    assert 503 == device.server.get("/ready").status


def test_out_of_memory_costs_one_model(on_device: OnDevice) -> None:
    """A push that fails once is tried again.

    One that fails for good leaves that model in RAM, and the others are there.
    """
    device = at_gate(on_device)
    device.set(fail_allocs=1000, fail_min=50 * MB)  # the text encoder's vocabulary alone is as large
    open_gate(device)
    device.server.wait_ready()
    assert {"first": "resident", "clip_l": "staged", "taesd3": "resident"} == states(device)
    assert any("clip_l stays in RAM: npu:0 is out of memory" in line for line in own_lines(device.server))
    assert 200 == device.server.get("/livez").status

    device.set(fail_allocs=1)
    assert "clip_l" in carry_out(device.server, "wake")["loaded"]
    assert {"resident"} == set(states(device).values())
    assert 0 == device["fail_allocs"], "it failed once"


def test_full_device(on_device: OnDevice) -> None:
    """Another process takes the memory between the plan and the push.

    Nothing fails, nothing is there; later it comes.
    """
    device = at_gate(on_device)
    device.set(other=16380 * MB)
    open_gate(device)
    device.server.wait_ready()
    assert {"staged"} == set(states(device).values())
    assert device.held < 8 * MB
    assert 200 == device.server.get("/livez").status

    device.set(other=0)
    assert "done" == carry_out(device.server, "wake")["state"]
    assert {"resident"} == set(states(device).values())

    carry_out(device.server, "sleep")
    device.set(other=16380 * MB)
    failed = carry_out(device.server, "wake")
    assert ("failed", "not_restored") == (failed["state"], failed["error"]["code"])
    assert ["gate"] == failed["loaded"]
    assert {"evicted"} == set(states(device).values())
    assert 200 == device.server.get("/ready").status


def test_card_smaller_than_a_model(on_device: OnDevice) -> None:
    """The text encoder alone is larger than the device.

    It stays in RAM, and prompts run as without the plugin.
    """
    device = at_gate(on_device, megabytes=200)
    open_gate(device)
    device.server.wait_ready()
    assert "staged" == states(device)["clip_l"]
    device.server.run(PROMPT)
    assert 200 == device.server.get("/ready").status


def test_a_device_that_is_not_there(on_device: OnDevice) -> None:
    """Of two entries that each name a device, the one whose device this machine has not got fails alone."""
    preload = """
on_error: serve
models:
  - {loader: CLIPLoader, inputs: {clip_name: clip_l.safetensors, type: sd3, device: cpu}, name: here}
  - {loader: CLIPLoader, inputs: {clip_name: clip_l.safetensors, type: sd3, device: "gpu:1"}, name: missing}
  - vae: taesd3
"""
    device = on_device(preload=preload)
    device.server.wait_ready()
    found = {name: (row["state"], row["device"]) for name, row in rows(device.server).items()}
    assert ("resident", "cpu") == found["here"]
    assert "failed" == found["missing"][0]
    assert ("resident", "npu:0") == found["taesd3"]
    assert "done" == carry_out(device.server, "sleep")["state"], (
        "what belongs on the CPU is not left on the device"
    )
