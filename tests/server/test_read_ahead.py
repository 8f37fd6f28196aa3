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
HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
CLIP_KB = 235_000
"""What a CLIP-L has in RAM."""
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
    told = server.get("/preload").json["prefetch"]

    assert sum((models / file).stat().st_size for file in FILES) == told["bytes"] == told["bytes_total"]
    assert not told["running"]


def test_it_comes_before_the_imports(server: ComfyServer) -> None:
    """The files are read before ComfyUI has logged its torch, and the memory is back before loading."""
    log = server.log

    assert log.index("[preload] prefetched") < log.index("Import times for custom nodes")
    assert log.index("[preload] pre-touched") < log.index("[preload] loaded tiny")


def test_loading_waits_for_its_file(server: ComfyServer) -> None:
    """Each model says how long it waited."""
    assert [True] * 4 == [
        row["seconds"]["read"] is not None for row in server.get("/ready?verbose").json["models"]["items"]
    ]


@pytest.mark.skipif(
    not HUGE_PAGES.exists() or "[never]" in HUGE_PAGES.read_text(), reason="this kernel has no huge pages"
)
@pytest.mark.parametrize("pretouch", [True, False])
def test_torch_asks_for_huge_pages(comfy: Comfy, *, pretouch: bool) -> None:
    """Memory of large tensors is marked for them (`hg`), unless the pre-touch is switched off."""
    server = comfy(
        preload=f"prefetch: {{pretouch: {str(pretouch).lower()}}}\nmodels: [{{clip: clip_l.safetensors}}]\n"
    )

    rss = marked = 0
    for line in Path(f"/proc/{server.pid}/smaps").read_text("ascii").splitlines():
        name, _, value = line.partition(":")
        if name == "Rss":
            rss = int(value.split()[0])
        elif name == "VmFlags" and "hg" in value.split():
            marked += rss
    assert pretouch == (marked > CLIP_KB / 2)


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
    assert "pre-touched" not in server.log
    assert ("wrong_value" if "perhaps" in options else None) == ready["failing"].get("preload.yaml", {}).get(
        "code"
    )


COLLECTOR = """
import gc
from aiohttp import web
from server import PromptServer

@PromptServer.instance.routes.get("/collector")
async def collector(request):
    return web.json_response({"on": gc.isenabled()})

NODE_CLASS_MAPPINGS = {}
"""


@pytest.mark.skipif(sys.platform != "linux", reason="libraries are read ahead on Linux only")
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


def test_collector_is_back(comfy: Comfy) -> None:
    """Once the port is open, Python collects as usual, with models and without."""
    for preload in ("models: [{vae: taesd}]", "models: []"):
        server = comfy(preload=preload, custom_nodes={"collector": COLLECTOR})
        server.wait_listening()

        assert server.get("/collector").json["on"] is True
