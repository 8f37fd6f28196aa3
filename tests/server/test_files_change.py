"""A model file that is replaced is loaded again on its next use.

One that is gone is still served from memory.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.server.conftest import Comfy
from tests.support import models as tiny
from tests.support import prompts
from tests.support.comfy import ComfyServer, PromptFailedError
from tests.support.readings import hits, misses, rows

PRELOAD = """
models:
  - unet: tiny.safetensors
  - unet: other.safetensors
  - vae: taesd3
  - checkpoint: tiny.safetensors
    name: whole
"""
UNET = prompts.load("UNETLoader", unet_name="tiny.safetensors", weight_dtype="default")
OTHER = prompts.load("UNETLoader", unet_name="other.safetensors", weight_dtype="default")
TINY_VAE = prompts.load("VAELoader", vae_name="taesd3")
CHECKPOINT = prompts.load("CheckpointLoaderSimple", ckpt_name="tiny.safetensors")


@pytest.fixture(scope="module")
def server(module_comfy: Comfy, module_models: Path) -> ComfyServer:
    server = module_comfy(preload=PRELOAD, models=module_models)
    server.wait_ready()
    return server


def test_replaced_file_is_loaded_anew(server: ComfyServer) -> None:
    """The next prompt gets the new weights, the one after it a hit on them; other models stay as they are."""
    old, kept = server.sink(UNET)["any"], server.sink(OTHER)["any"]
    missed = misses(server).get("UNETLoader", 0)

    tiny.tiny_unet(server.models / "diffusion_models" / "tiny.safetensors", seed=2)
    server.run(prompts.unrelated())
    new = server.sink(UNET)["any"]
    server.run(prompts.unrelated())
    before = hits(server)["tiny"]
    again = server.sink(UNET)["any"]

    assert old["weights"] != new["weights"]
    assert (new["id"], new["weights"]) == (again["id"], again["weights"])
    assert missed + 1 == misses(server)["UNETLoader"]
    assert before + 1 >= hits(server)["tiny"]
    assert kept["id"] == server.sink(OTHER)["any"]["id"]
    assert 200 == server.get("/ready").status


def test_one_of_two_files_replaced(server: ComfyServer) -> None:
    """A model of several files is loaded again if any of them is replaced."""
    old = server.sink(TINY_VAE)["any"]

    tiny.tiny_taesd(server.models / "vae_approx", "taesd3", seed=5)
    server.run(prompts.unrelated())

    assert old["weights"] != server.sink(TINY_VAE)["any"]["weights"]


def test_replaced_by_a_broken_file(server: ComfyServer) -> None:
    """The prompt fails as it would without the plugin; once the file is right again it is loaded."""
    path = server.models / "checkpoints" / "tiny.safetensors"
    good = path.rename(path.with_name("good"))
    path.write_bytes(b"half a file")
    server.run(prompts.unrelated())
    with pytest.raises(PromptFailedError, match=r"SafetensorError|header"):
        server.run(CHECKPOINT)

    good.replace(path)

    assert server.sink(CHECKPOINT)["any"]["weights"]
    assert "staged" == rows(server)["whole"]["state"]


def test_file_gone_is_still_served(server: ComfyServer) -> None:
    """The name is listed but leads nowhere, as with a volume that went away.

    What is in memory is what was asked for.
    """
    path = server.models / "diffusion_models" / "other.safetensors"
    old = server.sink(OTHER)["any"]["id"]
    path.unlink()
    path.symlink_to(path.with_name("nowhere"))
    server.run(prompts.unrelated())
    before = hits(server)["other"]

    assert old == server.sink(OTHER)["any"]["id"]
    assert before + 1 == hits(server)["other"]
    assert 200 == server.get("/ready/other").status


def test_file_no_longer_listed_is_refused_by_comfyui(server: ComfyServer) -> None:
    """Without the name in the folder ComfyUI's own check of the prompt refuses it, as ever.

    The model stays loaded.
    """
    (server.models / "vae_approx" / "taesd3_encoder.safetensors").unlink()

    with pytest.raises(PromptFailedError, match="value_not_in_list"):
        server.run(TINY_VAE)

    assert 200 == server.get("/ready").status
    assert 200 == server.get("/ready/taesd3").status
