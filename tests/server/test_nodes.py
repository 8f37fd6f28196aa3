"""The nodes that a user can put in a graph, run by a real ComfyUI.

What they hand out, when they run again, what they say.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.server.conftest import Comfy
from tests.support import models as tiny
from tests.support import prompts
from tests.support.comfy import ComfyServer, PromptFailedError
from tests.support.commands import carry_out
from tests.support.prompts import Prompt
from tests.support.readings import hits, misses

PRELOAD = """
models:
  - unet: tiny.safetensors
    name: base
  - clip: clip_l.safetensors
    type: sd3
  - {vae: taesd3, required: false}
  - {checkpoint: tiny.safetensors, name: whole}
  - {unet: nowhere.safetensors, name: gone, required: false}
"""
UNET = prompts.load("UNETLoader", unet_name="tiny.safetensors", weight_dtype="default")


@pytest.fixture(scope="module")
def server(module_comfy: Comfy, module_models: Path) -> ComfyServer:
    started = module_comfy(preload=PRELOAD, models=module_models)
    started.wait_ready()
    return started


@pytest.fixture(autouse=True)
def as_listed(request: pytest.FixtureRequest) -> None:
    """Every test that shares the server finds all of PRELOAD loaded and awake."""
    if "server" in request.fixturenames:
        server: ComfyServer = request.getfixturevalue("server")
        (server.base / "preload.yaml").write_text(PRELOAD, encoding="utf-8")
        carry_out(server, "wake")
        carry_out(server, "reload")


def take(model: str, output: int = 0, into: str = "any") -> Prompt:
    return {
        "preloaded": {"class_type": "ComfyPreload_Model", "inputs": {"model": model}},
        "sink": {"class_type": "Sink", "inputs": {into: ["preloaded", output]}},
    }


def status(**inputs: Any) -> Prompt:
    return {"status": {"class_type": "ComfyPreload_Status", "inputs": {"stop_if_not_ready": False, **inputs}}}


def said(server: ComfyServer, **inputs: Any) -> list[str]:
    """Status and details."""
    text: list[str] = server.run(status(**inputs))["outputs"]["status"]["text"]
    return text


def cached(entry: dict[str, Any]) -> set[str]:
    """The nodes that the executor did not run."""
    return {
        node
        for event, facts in entry["status"]["messages"]
        if event == "execution_cached"
        for node in facts["nodes"]
    }


def test_hands_out_what_a_stock_loader_would(server: ComfyServer) -> None:
    """The very object, counted as a hit; nothing is loaded."""
    before = hits(server)["base"]
    assert server.sink(UNET)["any"]["id"] == server.sink(take("base"))["any"]["id"]
    assert before + 2 == hits(server)["base"]
    assert ["CLIP", "VAE"] == [
        server.sink(take(name, output))["any"]["type"] for name, output in (("clip_l", 1), ("taesd3", 2))
    ]
    assert {} == misses(server)


def test_is_cached_until_the_object_is_another(server: ComfyServer) -> None:
    """Identical objects stay in the executor's cache.

    After `release` and after another file under the name it runs again.
    """
    first = server.sink(take("base"))["any"]
    assert "preloaded" in cached(server.run(take("base")))

    carry_out(server, "release", "base")
    second = server.sink(take("base"))["any"]
    assert first["id"] != second["id"], "a released model is loaded again by its next use"
    assert "preloaded" in cached(server.run(take("base")))

    text = PRELOAD.replace("unet: tiny.safetensors", "unet: other.safetensors")
    (server.base / "preload.yaml").write_text(text, encoding="utf-8")
    assert "base" in carry_out(server, "reload")["loaded"]
    third = server.sink(take("base"))["any"]
    assert first["weights"] != third["weights"], "the graph names no file"


def test_replaced_file(server: ComfyServer) -> None:
    """A replaced file is loaded again, as by a stock loader, and what comes after the node runs again."""
    file = server.models / "diffusion_models" / "tiny.safetensors"
    kept = file.with_suffix(".kept")
    old = server.sink(take("base"))["any"]["weights"]
    shutil.move(file, kept)
    tiny.tiny_unet(file, seed=9)
    assert old != server.sink(take("base"))["any"]["weights"]
    shutil.move(kept, file)
    assert old == server.sink(take("base"))["any"]["weights"]


@pytest.mark.parametrize(
    ("model", "output", "says"),
    [
        ("base", 1, r"'base' has no CLIP: UNETLoader returned MODEL\. Take the CLIP from another entry"),
        ("taesd3", 0, r"'taesd3' has no MODEL: VAELoader returned VAE"),
        ("whole", 1, r"'whole' has no CLIP: CheckpointLoaderSimple returned MODEL and VAE"),
        ("gone", 0, r"'gone' could not be preloaded\. nowhere\.safetensors is in none of"),
    ],
)
def test_what_is_not_there(server: ComfyServer, model: str, output: int, says: str) -> None:
    """The prompt fails at this node, with a sentence that says what to do.

    Outputs that nobody uses may be missing.
    """
    with pytest.raises(PromptFailedError, match=says):
        server.run(take(model, output))


def test_missing_output_of_a_cached_node(server: ComfyServer) -> None:
    """The node is in the cache from a graph that only took the model.

    What another graph takes from it in vain does not run.
    """
    server.run(take("base"))
    graph = {**take("base"), "decode": {"class_type": "Sink", "inputs": {"vae": ["preloaded", 2]}}}
    assert {"sink"} == server.run(graph)["outputs"].keys()


def test_unknown_name(server: ComfyServer) -> None:
    """Refused before anything runs, with the names there are."""
    with pytest.raises(PromptFailedError, match="refused with 400") as refused:
        server.run(take("bass"))
    assert (
        "No model in preload.yaml has the name 'bass'; available: base, clip_l, taesd3, whole, gone."
        in str(refused.value)
    )
    options = server.get("/object_info/ComfyPreload_Model").json["ComfyPreload_Model"]["input"]["required"][
        "model"
    ][0]
    assert ["base", "clip_l", "taesd3", "whole", "gone"] == options


def test_status(server: ComfyServer) -> None:
    """Word and details, of all and of one model; it runs again as soon as the state is another."""
    word, details = said(server)
    assert "degraded" == word
    assert "gone: nowhere.safetensors is in none of" in details
    assert ["resident", ""] == said(server, model="base")
    assert "status" in cached(server.run(status(model="base")))
    carry_out(server, "release", "base")
    assert ["released", ""] == said(server, model="base")
    with pytest.raises(PromptFailedError, match=r"No model in preload\.yaml has the name 'bass'"):
        said(server, model="bass")


def test_status_stops(server: ComfyServer) -> None:
    """A degraded preload that lets traffic in does not stop a graph; a sleeping one and a failed model do."""
    server.run(status(stop_if_not_ready=True))
    with pytest.raises(
        PromptFailedError, match=r"The preloaded model 'gone' is not ready: failed\. .*\[file_missing\]"
    ):
        server.run(status(stop_if_not_ready=True, model="gone"))
    carry_out(server, "sleep")
    with pytest.raises(PromptFailedError, match="The preload is not ready: sleeping"):
        server.run(status(stop_if_not_ready=True))
    assert "sleeping" == said(server)[0]


def test_status_lets_anything_through(server: ComfyServer) -> None:
    """A wire that goes through it is the same object afterwards, of a type that any input takes."""
    graph = take("base") | status(through=["preloaded", 0])
    graph["sink"]["inputs"] = {"model": ["status", 0], "any": ["preloaded", 0]}
    reported = server.sink(graph)
    assert reported["model"]["id"] == reported["any"]["id"]
    with_text = prompts.image() | status(through=["unet", 0])
    with_text["sampler"]["inputs"]["model"] = ["status", 0]
    server.run(with_text)


def test_in_a_warm_up(comfy: Comfy, tmp_path: Path) -> None:
    """A workflow that stops where the preload is not ready can be the warm-up.

    A model taken by name adds nothing to the plan.
    """
    graph = prompts.image() | status(stop_if_not_ready=True, through=["unet", 0])
    graph["unet"] = {"class_type": "ComfyPreload_Model", "inputs": {"model": "base"}}
    graph["sampler"]["inputs"]["model"] = ["status", 0]
    workflow = tmp_path / "named.json"
    workflow.write_text(json.dumps(graph), encoding="utf-8")
    text = (
        f"models: [{{unet: tiny.safetensors, name: base}}]\nworkflows: [{{path: {workflow}, warmup: true}}]\n"
    )
    server = comfy(preload=text)
    assert "ready" == server.wait_ready().json["status"]
    assert {"base", "clip_l"} == hits(server).keys()
    server.run(graph)
    assert {} == misses(server)


def test_nothing_is_preloaded(comfy: Comfy) -> None:
    """The nodes are there and say so."""
    server = comfy()
    assert ["ready", ""] == said(server)
    with pytest.raises(PromptFailedError, match="nothing is listed there"):
        server.run(take("base"))
