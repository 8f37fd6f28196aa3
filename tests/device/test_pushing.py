"""What goes to the device, in which order, and what main memory is needed on the way."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.device.conftest import OnDevice
from tests.support import models as tiny
from tests.support import prompts
from tests.support.commands import carry_out
from tests.support.device import MB, Device
from tests.support.readings import own_lines, rows

ORDERED = """
models:
  - unet: first.safetensors
  - {clip: clip_l.safetensors, type: sd3}
  - unet: second.safetensors
  - vae: taesd3
"""
FIRST = prompts.load("UNETLoader", unet_name="first.safetensors", weight_dtype="default")


def states(device: Device) -> dict[str, str]:
    return {name: row["state"] for name, row in rows(device.server).items()}


@pytest.mark.parametrize("start", [1, 2])
def test_first_entries_win(on_device: OnDevice, start: int) -> None:
    """With 1460 MB, of which ComfyUI keeps 1.2 GB free, the text encoder does not fit behind the first.

    The rest does.

    The same at each start: nothing that is there makes room for what comes later.
    """
    device = on_device(preload=ORDERED, megabytes=1460)
    device.server.wait_ready()
    expected = {"first": "resident", "clip_l": "staged", "second": "resident", "taesd3": "resident"}
    assert expected == states(device), f"start {start}"
    assert 0 == sum(row["evictions"] for row in rows(device.server).values())


def test_nothing_is_pushed_that_comes_back_at_once(on_device: OnDevice) -> None:
    """Under --disable-smart-memory ComfyUI unloads after every prompt, our job included.

    Not a byte is copied for nothing.
    """
    device = on_device(preload=ORDERED, args=["--disable-smart-memory"])
    device.server.wait_ready()
    assert device["h2d_bytes"] < 8 * MB
    assert {"staged"} == set(states(device).values())


def test_weights_that_are_larger_in_memory(on_device: OnDevice) -> None:
    """fp16 files computed in fp32 take twice their size: what is reported is what they take."""
    preload = "models:\n  - unet: first.safetensors\n  - unet: second.safetensors\n"
    device = on_device(preload=preload, args=["--fp32-unet"])
    device.server.wait_ready()
    assert device.said > 230 * MB
    assert abs(device.said - device.held) < device.held // 50
    assert {"resident"} == set(states(device).values())


@pytest.fixture
def large(tmp_path: Path) -> Iterator[Path]:
    """Five UNets of 151 MB."""
    folder = tmp_path / "models"
    for number in range(5):
        tiny.sd3_unet(folder / "diffusion_models" / f"large{number}.safetensors", depth=8, seed=number)
    yield folder
    shutil.rmtree(folder)


def test_peak_memory_is_that_of_the_largest(on_device: OnDevice, large: Path) -> None:
    """Each model goes to the device before the next is loaded.

    Five of them never need the memory of three.
    """
    preload = "when: background\nmodels:\n" + "".join(f"  - unet: large{n}.safetensors\n" for n in range(5))
    device = on_device(preload=preload, models=large)
    highest, over = [device.host_bytes], threading.Event()

    def sample() -> None:
        while not over.wait(0.02):
            highest.append(device.host_bytes)

    sampling = threading.Thread(target=sample)
    sampling.start()
    device.server.wait_ready()
    over.set()
    sampling.join()
    assert device.held > 700 * MB
    assert max(highest) - device.host_bytes < 3 * 151 * MB


@pytest.mark.parametrize("rounds", [6, pytest.param(20, marks=pytest.mark.soak)])
def test_rounds_of_sleep_and_wake(on_device: OnDevice, rounds: int) -> None:
    """Neither the device nor the host's heap grows."""
    device = on_device(preload=ORDERED)
    device.server.wait_ready()
    held, host = [device.held], [device.host_bytes]
    for _ in range(rounds):
        assert "done" == carry_out(device.server, "sleep")["state"]
        assert device.held < 8 * MB
        assert "done" == carry_out(device.server, "wake")["state"]
        held.append(device.held)
        host.append(device.host_bytes)
    assert 1 == len(set(held))
    assert max(host[3:]) - min(host[3:]) < host[3] // 10, [count // MB for count in host]
    assert 0 == sum(row["evictions"] for row in rows(device.server).values())


@pytest.mark.parametrize(
    "flags",
    [
        "",
        "--cache-ram",
        *(pytest.param(one, marks=pytest.mark.soak) for one in ("--cache-lru 10", "--cache-none")),
    ],
)
def test_released_memory_is_free_when_the_job_is_done(
    on_device: OnDevice, models: Path, tmp_path: Path, flags: str
) -> None:
    """Right after a prompt, under every cache of the executor.

    And a replaced file's new weights are the ones that are used.
    """
    own = Path(shutil.copytree(models, tmp_path / "own"))
    device = on_device(preload=ORDERED, args=flags.split(), models=own)
    server = device.server
    server.wait_ready()
    server.run(prompts.image(unet="first.safetensors", vae="taesd3"))
    old, held = server.sink(FIRST)["any"]["weights"], device.held

    assert "done" == carry_out(server, "release", "first")["state"]
    assert held - device.held > 65 * MB
    assert "done" == carry_out(server, "reload")["state"]
    assert abs(device.held - held) < held // 50

    tiny.sd3_unet(own / "diffusion_models" / "new.safetensors", depth=6, seed=9).replace(
        own / "diffusion_models" / "first.safetensors"
    )
    done = carry_out(server, "reload")
    assert ("done", ["first"]) == (done["state"], done["loaded"])
    assert abs(device.held - held) < held // 50, "the old weights are gone"
    assert old != server.sink(FIRST)["any"]["weights"]
    assert not [line for line in own_lines(server) if "ERROR" in line]
