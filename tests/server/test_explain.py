"""`/preload/explain/{id}`: what each loader node of a prompt found, for every kind of answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.server.conftest import Comfy
from tests.support import models as tiny
from tests.support import prompts
from tests.support.comfy import ComfyServer
from tests.support.commands import carry_out
from tests.support.readings import rows

PRELOAD = """
models: [{unet: tiny.safetensors, weight_dtype: fp8_e4m3fn}, {vae: taesd}]
workflows: [{path: image.json}]
"""


@pytest.fixture(scope="module")
def server(module_comfy: Comfy, module_models: Path, tmp_path_factory: pytest.TempPathFactory) -> ComfyServer:
    """A server with a workflow and a model of its own; each test forgets what ComfyUI's cache has."""
    folder = tmp_path_factory.mktemp("settings")
    (folder / "preload.yaml").write_text(PRELOAD, encoding="utf-8")
    (folder / "image.json").write_text(json.dumps(prompts.image(unet="other.safetensors")), encoding="utf-8")
    tiny.tiny_unet(module_models / "diffusion_models" / "third.safetensors", seed=3)
    started = module_comfy(env={"PRELOAD_CONFIG": str(folder / "preload.yaml")}, models=module_models)
    started.wait_ready()
    return started


@pytest.fixture(autouse=True)
def _empty_cache(server: ComfyServer) -> None:
    server.run(prompts.unrelated())


def unet(name: str = "tiny.safetensors", weight_dtype: str = "fp8_e4m3fn") -> dict[str, Any]:
    """Return a prompt with one loader node."""
    return prompts.load("UNETLoader", unet_name=name, weight_dtype=weight_dtype)


def explained(server: ComfyServer, prompt: dict[str, Any]) -> dict[str, Any]:
    """Run the prompt and return its evidence."""
    prompt_id = server.queue(prompt)
    server.result(prompt_id)
    path = f"/preload/explain/{prompt_id}"
    server.wait(lambda: (server.get(path).json or {}).get("state") == "done", "done with its evidence")
    found: dict[str, Any] = server.get(path).json
    return found


def explain(server: ComfyServer, prompt: dict[str, Any]) -> tuple[str, str | None, str | None, str | None]:
    """Run the prompt and return (result, model, reason, message) of its only loader node."""
    [use] = explained(server, prompt)["loaders"]
    return use["result"], use["model"], use["reason"], use["message"]


def test_hit(server: ComfyServer) -> None:
    """The preloaded model; nothing was uploaded, since there is no accelerator."""
    assert ("hit", "tiny", None, None) == explain(server, unet())
    server.run(prompts.unrelated())
    assert [0] == [use["uploaded"] for use in explained(server, unet())["loaders"]]


def test_cached(server: ComfyServer) -> None:
    """The second time ComfyUI's own cache answers; the model has served both."""
    before = rows(server)["tiny"]["served"]["prompts"]
    explain(server, unet())
    assert ("cached", "tiny", None, None) == explain(server, unet())

    served = rows(server)["tiny"]["served"]
    assert before + 2 == served["prompts"]
    assert None not in (served["first"], served["last"], served["median"])


def test_miss_by_input(server: ComfyServer) -> None:
    """Another option: which, and what is planned. The row of the model says it too."""
    message = "weight_dtype is default, planned fp8_e4m3fn"

    assert ("miss", "tiny", "input", message) == explain(server, unet(weight_dtype="default"))
    assert f"input: {message}" == rows(server)["tiny"]["last_miss"]


def test_miss_by_file(server: ComfyServer) -> None:
    """The file was replaced: it is loaded again, and the model begins again."""
    file = server.models / "diffusion_models" / "tiny.safetensors"
    file.unlink()
    tiny.tiny_unet(file, seed=2)

    assert ("miss", "tiny", "file") == explain(server, unet())[:3]
    assert 1 == rows(server)["tiny"]["served"]["prompts"]


def test_not_planned(server: ComfyServer) -> None:
    """A file that no model of the plan has: the nearest is named."""
    message = "unet_name is third.safetensors, planned tiny.safetensors"

    assert ("miss", None, "not_planned", message) == explain(server, unet("third.safetensors"))


def test_released(server: ComfyServer) -> None:
    """A released model is loaded by the prompt."""
    carry_out(server, "release", "tiny")

    assert ("miss", "tiny", "not_loaded", "its state was released") == explain(server, unet())


def test_workflow(server: ComfyServer) -> None:
    """A prompt with the nodes and links of a workflow counts for it, with any texts.

    In /preload and in the metrics, with its last miss.
    """
    prompt = prompts.image(unet="other.safetensors", text="a ship", seed=3)
    assert "image.json" == explained(server, prompt)["workflow"]
    prompt["unet"]["inputs"]["weight_dtype"] = "fp8_e4m3fn"
    explained(server, prompt)

    (row,) = server.get("/preload").json["workflows"]
    assert ("image.json", 2) == (row["name"], row["served"]["prompts"])
    assert "UNETLoader: input: weight_dtype is fp8_e4m3fn, planned default" == row["last_miss"]
    metrics = server.get("/preload/metrics").text
    assert 'comfyui_preload_workflow_prompts{workflow="image.json"} 2.0' in metrics


def test_unknown(server: ComfyServer) -> None:
    """Of a prompt that never was there is no evidence."""
    assert 404 == server.get("/preload/explain/nobody").status
    assert {"prompts": 0, "first": None, "last": None, "median": None} == rows(server)["taesd"]["served"]
