"""One rule under every memory flag and after every step.

What is reported is what the allocator holds, to 2 %, by device.

And a job is done exactly if its effect is there.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.device.conftest import OnDevice
from tests.support import prompts
from tests.support.comfy import PromptFailedError
from tests.support.commands import carry_out
from tests.support.device import MB, Device
from tests.support.readings import rows

PRELOAD = """
models:
  - unet: first.safetensors
  - {clip: clip_l.safetensors, type: sd3}
  - vae: taesd3
  - {unet: second.safetensors, device: ram, required: false}
"""
FLAGS = (
    *("", "--gpu-only", "--novram", "--disable-smart-memory"),
    *(
        pytest.param(flags, marks=pytest.mark.soak)
        for flags in ("--highvram", "--lowvram", "--cpu-vae", "--reserve-vram 2")
    ),
)
WEIGHTS = 400 * MB
"""What the four have together, nearly."""
SLACK = WEIGHTS // 50
STAYS = ("--gpu-only", "--highvram")
"""Under these ComfyUI has nowhere to move some weights to."""

Job = dict[str, Any]
log = logging.getLogger(__name__)


def prompt(unet: str = "first", seed: int = 0) -> prompts.Prompt:
    return prompts.image(unet=f"{unet}.safetensors", vae="taesd3", seed=seed)


def run_out_of_memory(device: Device) -> None:
    """A prompt in which every allocation of 100 kB fails.

    Afterwards ComfyUI takes everything off the device.
    """
    device.set(fail_allocs=1 << 40, fail_min=100_000)
    try:
        with pytest.raises(PromptFailedError, match=r"(?i)memory"):
            device.server.run(prompt(seed=7))
    finally:
        device.set(fail_allocs=0)


def free(device: Device) -> None:
    """ComfyUI's own route; it answers before anything is freed."""
    device.server.post("/free", {"unload_models": True, "free_memory": True})
    device.server.run(prompts.unrelated(color=8))


STEPS: dict[str, Callable[[Device], Job | None]] = {
    "ready": lambda device: device.server.wait_ready() and None,
    "prompt": lambda device: device.server.run(prompt(seed=1)) and None,
    "another workflow": lambda device: device.server.run(prompt("second", seed=2)) and None,
    "sleep": lambda device: carry_out(device.server, "sleep"),
    "wake": lambda device: carry_out(device.server, "wake"),
    "out of memory": run_out_of_memory,
    "wake again": lambda device: carry_out(device.server, "wake"),
    "release": lambda device: carry_out(device.server, "release"),
    "reload": lambda device: carry_out(device.server, "reload"),
    "prompt again": lambda device: device.server.run(prompt(seed=3)) and None,
    "free": free,
}


@pytest.fixture(scope="module", params=FLAGS, ids=lambda flags: flags.replace(" ", "=") or "none")
def started(request: pytest.FixtureRequest, module_on_device: OnDevice) -> Iterator[tuple[str, Device]]:
    """One server for all steps; only one at a time, so that memory does not run short."""
    flags: str = request.param
    device = module_on_device(preload=PRELOAD, args=flags.split())
    yield flags, device
    device.server.stop()


def agree(device: Device) -> tuple[int, int]:
    """Wait until what is said is what is held, and return both.

    A prompt's own tensors are let go of in a moment.
    """
    end = time.monotonic() + 5
    while True:
        said, held = device.said, device.held
        if abs(said - held) <= SLACK or time.monotonic() > end:
            return said, held
        time.sleep(0.1)


def test_said_is_held(started: tuple[str, Device]) -> None:
    flags, device = started
    before = 0
    for step, act in STEPS.items():
        job = act(device)
        said, held = agree(device)
        log.info(
            "%s: %s: said %.1f, held %.1f MB, job %s", flags, step, said / MB, held / MB, job and job["state"]
        )
        assert abs(said - held) <= SLACK, (step, said, held, rows(device.server))
        listed = sum(row["bytes_on_device"] for row in rows(device.server).values())
        assert listed == sum(device.said_by_device.values())
        if step == "sleep" and job:
            freed = held <= SLACK
            assert freed is not (flags in STAYS)
            assert ("done" if freed else "failed") == job["state"], job
        if step.startswith("wake") and job:
            restored = held >= before - SLACK
            assert ("done" if restored else "failed") == job["state"], (job, held, before)
        if step == "release" and job:
            assert held <= SLACK
        if step == "reload" and job:
            assert "done" == job["state"]
            assert {"resident"} >= {row["state"] for row in rows(device.server).values()} or flags in (
                "--novram",
                "--disable-smart-memory",
            )
        if step == "prompt":
            before = held
    assert 200 == device.server.get("/livez").status
