"""Reading ahead in a real ComfyUI.

Begun before torch is imported, over when models are loaded, harmless when it fails.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.server.conftest import Comfy
from tests.support.comfy import ComfyServer

MODELS = """
models:
  - unet: tiny.safetensors
  - clip: clip_l.safetensors
  - vae: taesd
  - loader: UpscaleModelLoader
    inputs: {model_name: tiny.safetensors}
    name: upscale
"""
FILES = tuple(
    f"{name}.safetensors"
    for name in (
        "diffusion_models/tiny",
        "text_encoders/clip_l",
        "vae_approx/taesd_encoder",
        "vae_approx/taesd_decoder",
        "upscale_models/tiny",
    )
)


@pytest.fixture(scope="module")
def server(module_comfy: Comfy) -> ComfyServer:
    """A server with the shorthand, a tiny VAE and a loader in its general form."""
    found = module_comfy(preload=MODELS)
    found.wait_ready()
    return found


def test_files_that_can_be_told_are_read(server: ComfyServer, models: Path) -> None:
    """Before there are loader nodes, the class of a core loader says in which folder its file is."""
    prefetch = server.get("/preload").json["prefetch"]

    assert (
        sum((models / file).stat().st_size for file in FILES) == prefetch["bytes"] == prefetch["bytes_total"]
    )
    assert not prefetch["running"]


@pytest.mark.cold
def test_it_comes_before_the_imports(comfy: Comfy, tmp_path: Path) -> None:
    """The files are read before ComfyUI has imported its nodes.

    Also where no process can be started to read libraries: Python does not find itself.
    """
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.executable = '/nowhere/python'\n")
    server = comfy(preload=MODELS, env={"PYTHONPATH": str(tmp_path)})
    log = server.log

    assert ("libraries are not read ahead: " in log) is (sys.platform == "linux")
    assert log.index("[preload] prefetched") < log.index("Import times for custom nodes")


def test_loading_waits_for_its_file(server: ComfyServer) -> None:
    """Each model says how long it waited."""
    assert [True] * 4 == [
        row["seconds"]["read"] is not None for row in server.get("/ready?verbose").json["models"]["items"]
    ]


@pytest.mark.parametrize(
    "options", ["{enabled: false}", "{memory: 0}", "{enabled: perhaps}"], ids=["off", "no-memory", "wrong"]
)
def test_without_it_models_load_all_the_same(comfy: Comfy, options: str) -> None:
    """Switched off, without memory to fill, or with settings that are wrong.

    Nothing is read ahead, everything is loaded.
    """
    server = comfy(preload=f"prefetch: {options}\n{MODELS}")

    ready = server.get("/ready").json
    assert 4 == ready["models"]["ready"]
    assert ("wrong_value" if "perhaps" in options else None) == ready["failing"].get("preload.yaml", {}).get(
        "code"
    )


COLLECTOR = """
import gc
from aiohttp import web
from server import PromptServer

@PromptServer.instance.routes.get("/collector")
async def collector(request):
    return web.json_response({"on": gc.isenabled(), "left_out": gc.get_freeze_count()})

NODE_CLASS_MAPPINGS = {}
"""


@pytest.mark.skipif(sys.platform != "linux", reason="libraries are read ahead on Linux only")
@pytest.mark.cold
def test_second_start_reads_libraries_ahead(comfy: Comfy) -> None:
    """The first start records what it read, into the user folder; the next one reads it before the models."""
    server = comfy(preload="models: [{vae: taesd}]", custom_nodes={"collector": COLLECTOR})
    server.wait_ready()
    server.wait(lambda: "recorded what this start has read" in server.log, "a record")
    assert "guessed" in server.log
    server.stop()
    server.start()
    server.wait_ready()

    assert server.log.index("of libraries in") < server.log.index("prefetched")
    assert "guessed" not in server.log
    assert "recorded" not in server.log
    assert server.get("/collector").json["left_out"] > 100_000, "what torch's imports have made"


def test_collector_is_back(comfy: Comfy) -> None:
    """Once the port is open, Python collects again. Imports are left out, unless nothing is prefetched."""

    def left_out(preload: str) -> int:
        server = comfy(preload=preload, custom_nodes={"collector": COLLECTOR})
        server.wait_listening()
        found = server.get("/collector").json
        assert found["on"] is True
        return int(found["left_out"])

    model = "models: [{vae: taesd}]\n"
    idle = left_out("models: []") + 5_000  # what a fork leaves out already, more or less
    assert left_out(model + "prefetch: {enabled: false}") < idle
    assert left_out(model) > idle
    assert left_out(model + "prefetch: {libraries: false}") > idle
