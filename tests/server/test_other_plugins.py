"""Other plugins wrap the same loader nodes, below the plugin and above it.

All get their calls, and our wrapper comes off.
"""

from __future__ import annotations

import pytest

from tests.server.conftest import Comfy
from tests.support import prompts
from tests.support.comfy import ComfyServer
from tests.support.readings import CUSTOM_NODES, hits, misses, rows

pytestmark = pytest.mark.cold

PRELOAD = """
models:
  - unet: tiny.safetensors
  - vae: taesd3
  - loader: UpscaleModelLoader
    inputs: {model_name: tiny.safetensors}
    name: upscale
  - {loader: TestV3HeirLoader, inputs: {file: tiny.safetensors}, name: heir}
"""
UNET = prompts.load("UNETLoader", unet_name="tiny.safetensors", weight_dtype="default")
VAE = prompts.load("VAELoader", vae_name="taesd3")
NODES = {name: CUSTOM_NODES / name for name in ("outer", "window", "loaders_v3")}


@pytest.fixture
def server(comfy: Comfy) -> ComfyServer:
    server = comfy(preload=PRELOAD, custom_nodes=NODES)
    server.wait_ready()
    return server


def test_wrappers_of_others(server: ComfyServer) -> None:
    """One test, for its steps are one story: wrapped below, watched, wrapped above, unwatched."""
    # Only the preload itself got through to the wrapper below.
    assert {"below": 1, "above": 0} == server.get("/outer").json
    assert {"resident"} == {row["state"] for row in rows(server).values()}
    first = server.sink(UNET)["any"]
    assert {"tiny": 1} == {name: count for name, count in hits(server).items() if count}
    assert {"below": 1, "above": 0} == server.get("/outer").json
    assert ["TestV3HeirLoader", "UpscaleModelLoader", "VAELoader"] == [
        name for name in server.get("/window").json["touched"] if name != "UNETLoader"
    ]

    # Wrapped once more, from above: the wrapper is called, and what comes through it is the preloaded model.
    server.post("/outer/wrap")
    server.run(prompts.unrelated())
    assert first == server.sink(UNET)["any"]
    assert {"below": 1, "above": 1} == server.get("/outer").json
    assert 2 == hits(server)["tiny"]

    # Ours come off: those on top vanish, the one with a stranger above it stays and only passes calls
    # through.
    assert ["UNETLoader"] == server.post("/window/unwatch").json
    assert ["UNETLoader"] == server.get("/window").json["touched"]
    server.run(prompts.unrelated())
    again = server.sink(UNET)["any"]
    assert {"below": 2, "above": 2} == server.get("/outer").json
    assert (first["weights"], True) == (again["weights"], first["id"] != again["id"])
    server.sink(VAE)
    server.sink(prompts.load("TestV3HeirLoader", file="tiny.safetensors", number=3))
    assert {"tiny": 2, "taesd3": 0, "upscale": 0, "heir": 0} == hits(server)
    assert {} == misses(server)
