"""Preloaded models in use: LoRA on and off, weights moved away, nodes that misbehave.

What is kept stays right.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.server.conftest import Comfy
from tests.support import models as tiny
from tests.support import prompts
from tests.support.comfy import ComfyServer
from tests.support.prompts import Prompt
from tests.support.readings import CUSTOM_NODES, hits, misses, poison, rows

PRELOAD = """
models:
  - unet: tiny.safetensors
  - unet: other.safetensors
  - clip: clip_l.safetensors
    type: sd3
  - checkpoint: tiny.safetensors
    name: whole
"""
READ = (
    *("diffusion_models/tiny.safetensors", "diffusion_models/other.safetensors"),
    *("text_encoders/clip_l.safetensors", "checkpoints/tiny.safetensors"),
)
UNET = prompts.load("UNETLoader", unet_name="tiny.safetensors", weight_dtype="default")
CHECKPOINT = prompts.load("CheckpointLoaderSimple", ckpt_name="tiny.safetensors")


@pytest.fixture(scope="module")
def server(module_comfy: Comfy, module_models: Path) -> ComfyServer:
    tiny.tiny_lora(module_models / "loras" / "second.safetensors", seed=1)
    server = module_comfy(
        preload=PRELOAD, models=module_models, custom_nodes={"tamper": CUSTOM_NODES / "tamper"}
    )
    server.wait_ready()
    poison(module_models, READ)
    return server


def _chain(count: int, unet: str = "tiny.safetensors") -> Prompt:
    """A latent from the model with the first `count` of two LoRAs on it."""
    prompt = prompts.image(unet=unet)
    for place, name in enumerate(("tiny", "second")[:count]):
        inputs = {
            "model": prompt["sampler"]["inputs"]["model"],
            "lora_name": f"{name}.safetensors",
            "strength_model": 8.0,
        }
        prompt[f"lora{place}"] = {"class_type": "LoraLoaderModelOnly", "inputs": inputs}
        prompt["sampler"]["inputs"]["model"] = [f"lora{place}", 0]
    return prompt


def _latent(server: ComfyServer, prompt: Prompt) -> bytes:
    """The tensors of the latent that the prompt saves; the header holds the prompt itself."""
    saved = server.run(prompt)["outputs"]["save"]["latents"][0]
    content = (server.base / "output" / saved["subfolder"] / saved["filename"]).read_bytes()
    header = int.from_bytes(content[:8], "little")
    assert {"latent_tensor", "latent_format_version_0"} <= json.loads(content[8 : 8 + header]).keys()
    return content[8 + header :]


def test_lora_comes_off_without_a_trace(server: ComfyServer) -> None:
    """With none, one, two, one, none, one LoRA.

    Equal chains give equal latents, to the bit, and the base has no patch left.
    """
    base = server.sink(UNET)["any"]

    latents: dict[int, set[bytes]] = {0: set(), 1: set(), 2: set()}
    for seen, count in enumerate((0, 1, 2, 0, 1, 0)):
        server.run(prompts.unrelated(color=seen))
        latents[count].add(_latent(server, _chain(count)))
    after = server.sink(UNET)["any"]

    assert {0: 1, 1: 1, 2: 1} == {count: len(found) for count, found in latents.items()}
    assert 3 == len(set.union(*latents.values()))
    assert (base["id"], base["module"], 0) == (after["id"], after["module"], after["patches"])
    assert base["weights"] == after["weights"]
    assert "memory leak" not in server.log


def test_free_moves_but_loses_nothing(server: ComfyServer) -> None:
    """POST /free takes the weights off the device.

    /ready says so and stays 200; the next prompt hits and brings them back.
    """
    first = _latent(server, _chain(0))
    before = server.sink(UNET)["any"]["id"]
    missed = misses(server)

    assert 200 == server.post("/free", {"unload_models": True, "free_memory": True}).status
    server.wait(lambda: rows(server)["tiny"]["state"] == "evicted", "rid of its models", deadline=20)

    assert {"evicted"} == {row["state"] for row in rows(server).values()}
    assert 0 == rows(server)["tiny"]["bytes_on_device"]
    assert (200, 200) == (server.get("/ready").status, server.get("/ready/tiny").status)
    assert before == server.sink(UNET)["any"]["id"]
    assert first == _latent(server, _chain(0))
    assert "resident" == rows(server)["tiny"]["state"]
    assert missed == misses(server)


def test_dead_entry_is_mended(server: ComfyServer) -> None:
    """Clones collected in one reference cycle leave ComfyUI a dead entry, of which it complains at each load.

    A hit mends it.
    """
    loader = prompts.load("UNETLoader", unet_name="other.safetensors", weight_dtype="default")["loader"]
    cycle = {"unet": loader, "cycle": {"class_type": "TestCycle", "inputs": {"model": ["unet", 0]}}}
    assert [1] == server.run(cycle)["outputs"]["cycle"]["dead"]
    server.run(prompts.unrelated())

    first = _latent(server, _chain(0, unet="other.safetensors"))
    complaints = server.log.count("Potential memory leak")
    for color in (1, 2):
        server.run(prompts.unrelated(color=color))
        assert first == _latent(server, _chain(0, unet="other.safetensors"))

    assert complaints == server.log.count("Potential memory leak")


def test_change_in_place_persists(server: ComfyServer) -> None:
    """A node that changes the model itself changes it for good, as with ComfyUI's own cache.

    Nothing else is touched by it.
    """
    before, other = server.sink(CHECKPOINT)["any"], server.sink(UNET)["any"]
    prompt = {
        "loader": CHECKPOINT["loader"],
        "mutate": {"class_type": "TestMutate", "inputs": {"model": ["loader", 0]}},
        "sink": {"class_type": "Sink", "inputs": {"any": ["mutate", 0]}},
    }
    changed = server.sink(prompt)["any"]
    server.run(prompts.unrelated())
    kept = hits(server)["whole"]

    assert before["weights"] != changed["weights"]
    assert (before["id"], changed["weights"]) == (
        (after := server.sink(CHECKPOINT)["any"])["id"],
        after["weights"],
    )
    assert kept + 1 >= hits(server)["whole"]
    assert (other["id"], other["weights"]) == ((same := server.sink(UNET)["any"])["id"], same["weights"])
