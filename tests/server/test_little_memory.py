"""A reload where main memory cannot hold the old models beside the new: the old are let go of first."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.server.conftest import Comfy
from tests.support import models as tiny
from tests.support import prompts
from tests.support.comfy import ComfyServer
from tests.support.commands import carry_out
from tests.support.readings import own_lines

PRELOAD = "models:\n  - {unet: tiny.safetensors, required: false}\n  - vae: taesd3\n"
UNET = prompts.load("UNETLoader", unet_name="tiny.safetensors", weight_dtype="default")
LITTLE = '''
"""The machine's available memory is what the file `available` says, where it is there."""
import psutil
from pathlib import Path

FILE = Path(__file__).parents[2] / "available"
real = psutil.virtual_memory

def virtual_memory():
    found = real()
    return found._replace(available=int(FILE.read_text())) if FILE.exists() else found

psutil.virtual_memory = virtual_memory
NODE_CLASS_MAPPINGS = {}
'''


@pytest.fixture(scope="module")
def server(module_comfy: Comfy, module_models: Path) -> ComfyServer:
    started = module_comfy(preload=PRELOAD, models=module_models, custom_nodes={"little": LITTLE})
    started.wait_ready()
    return started


@pytest.fixture
def little(server: ComfyServer) -> int:
    """Less memory than loading the UNet may need, in bytes; more than the plan is refused for."""
    size = (server.models / "diffusion_models" / "tiny.safetensors").stat().st_size
    return size + size // 10


def test_old_is_let_go_first(server: ComfyServer, little: int) -> None:
    """The replaced model is gone before the new one is loaded; what did not change stays."""
    old = server.sink(UNET)["any"]["weights"]
    tiny.tiny_unet(server.models / "diffusion_models" / "tiny.safetensors", seed=7)
    (server.base / "available").write_text(str(little), encoding="utf-8")

    done = carry_out(server, "reload")

    (server.base / "available").unlink()
    assert ("done", ["tiny"], ["taesd3"]) == (done["state"], done["loaded"], done["kept"])
    log = [line for line in own_lines(server) if "memory cannot hold" in line or "loaded tiny" in line]
    assert "tiny let go first" in log[-2]
    assert "loaded tiny" in log[-1]
    assert old != server.sink(UNET)["any"]["weights"]


def test_beside_where_there_is_room(server: ComfyServer) -> None:
    """With enough memory the old one serves until the new one is there."""
    before = sum("let go first" in line for line in own_lines(server))
    tiny.tiny_unet(server.models / "diffusion_models" / "tiny.safetensors", seed=8)

    assert "done" == carry_out(server, "reload")["state"]
    assert before == sum("let go first" in line for line in own_lines(server))


def test_new_one_is_broken(server: ComfyServer, little: int) -> None:
    """A file that is seen to be broken before anything is let go of costs nothing: the old one stays."""
    file = server.models / "diffusion_models" / "tiny.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    (server.base / "available").write_text(str(little), encoding="utf-8")

    failed = carry_out(server, "reload")

    (server.base / "available").unlink()
    assert ("failed", "reload_kept_old") == (failed["state"], failed["error"]["code"])
    assert 200 == server.get("/ready").status
