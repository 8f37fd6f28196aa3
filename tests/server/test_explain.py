"""`/preload/explain/{id}`: what each loader node of a prompt found, for every kind of answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.server.conftest import Comfy
from tests.support import models as tiny
from tests.support import prompts
from tests.support.comfy import ComfyServer
from tests.support.readings import rows

PRELOAD = "models: [{unet: tiny.safetensors}, {vae: taesd}]"


def unet(name: str = "tiny.safetensors", weight_dtype: str = "default") -> dict[str, Any]:
    """Return a prompt with one loader node."""
    return prompts.load("UNETLoader", unet_name=name, weight_dtype=weight_dtype)


def explain(server: ComfyServer, prompt: dict[str, Any]) -> tuple[str, str | None, str | None, str | None]:
    """Run the prompt and return (result, model, reason, message) of its only loader node."""
    prompt_id = server.queue(prompt)
    server.result(prompt_id)
    path = f"/preload/explain/{prompt_id}"
    server.wait(lambda: (server.get(path).json or {}).get("state") == "done", "done with its evidence")
    [use] = server.get(path).json["loaders"]
    return use["result"], use["model"], use["reason"], use["message"]


def test_every_answer(comfy: Comfy, own_models: Path) -> None:
    """A hit, ComfyUI's cache, and each reason of a miss.

    The row of the model has what it served and its last miss.
    """
    server = comfy(preload=PRELOAD, models=own_models)
    server.wait_ready()

    assert ("hit", "tiny", None, None) == explain(server, unet())
    assert ("cached", "tiny", None, None) == explain(server, unet())
    served = rows(server)["tiny"]["served"]
    assert (2, None) == (served["prompts"], rows(server)["tiny"]["last_miss"])
    assert served["first"] is not None
    assert served["last"] == served["median"]

    option = "weight_dtype is fp8_e4m3fn, planned default"
    assert ("miss", "tiny", "input", option) == explain(server, unet(weight_dtype="fp8_e4m3fn"))
    other = "unet_name is other.safetensors, planned tiny.safetensors"
    assert ("miss", None, "not_planned", other) == explain(server, unet("other.safetensors"))
    assert f"input: {option}" == rows(server)["tiny"]["last_miss"]

    file = own_models / "diffusion_models" / "tiny.safetensors"
    file.unlink()
    tiny.tiny_unet(file, seed=2)
    server.run(prompts.unrelated())
    assert ("miss", "tiny", "file") == explain(server, unet())[:3]
    assert 1 == rows(server)["tiny"]["served"]["prompts"]

    server.run(prompts.unrelated(1))
    job = server.post("/preload/release", {"model": "tiny"}).headers["Location"]
    server.wait(lambda: server.get(job).json["state"] == "done", "released")
    assert ("miss", "tiny", "not_loaded", "its state was released") == explain(server, unet())
    assert 404 == server.get("/preload/explain/nobody").status
    assert {"prompts": 0, "first": None, "last": None, "median": None} == rows(server)["taesd"]["served"]
