"""What others do to the prompts that are ours.

Clear the history or the queue, press cancel, watch the editor's socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.server.conftest import Comfy
from tests.support import prompts
from tests.support.comfy import ComfyServer
from tests.support.commands import carry_out
from tests.support.readings import CUSTOM_NODES, rows
from tools.host import comfyui_path

PAUSE = {
    "pause": """
import logging, time
from pathlib import Path
import folder_paths

class TestPause:
    '''Hands its input on once input/open is there.'''
    CATEGORY, FUNCTION, RETURN_TYPES = "tests", "run", ("LATENT",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"latent": ("LATENT",)}}

    def run(self, latent):
        logging.info("a pause begins")
        while not Path(folder_paths.get_input_directory(), "open").exists():
            time.sleep(0.05)
        return (latent,)

NODE_CLASS_MAPPINGS = {"TestPause": TestPause}
"""
}
WORKFLOW: dict[str, Any] = {
    "1": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}},
    "2": {"class_type": "TestPause", "inputs": {"latent": ["1", 0]}},
    "3": {"class_type": "SaveLatent", "inputs": {"samples": ["2", 0], "filename_prefix": "tests"}},
}
WARMED = "when: background\nworkflows:\n  - {path: pause.json, warmup: true}\n"
LOADERS = {"loaders": CUSTOM_NODES / "loaders"}


def pausing(comfy: Comfy, folder: Path) -> ComfyServer:
    """A server in the middle of its warm-up."""
    (folder / "preload.yaml").write_text(WARMED, encoding="utf-8")
    (folder / "pause.json").write_text(json.dumps(WORKFLOW), encoding="utf-8")
    server = comfy(env={"PRELOAD_CONFIG": str(folder / "preload.yaml")}, custom_nodes=PAUSE)
    server.wait(lambda: "a pause begins" in server.log, "at its pause")
    return server


def open_gate(server: ComfyServer) -> None:
    (server.base / "input" / "open").touch()


def clear_history(server: ComfyServer) -> None:
    assert 200 == server.post("/history", {"clear": True}).status


def test_history_cleared_while_a_warm_up_runs(comfy: Comfy, tmp_path: Path) -> None:
    """The warm-up ends, once, and those who wait behind it are served."""
    server = pausing(comfy, tmp_path)
    waiting = server.queue(prompts.unrelated())
    clear_history(server)
    open_gate(server)
    server.wait_ready()
    assert "warm" == server.get("/preload").json["warmups"][0]["state"]
    server.result(waiting)
    assert 1 == server.log.count("a pause begins")


def test_history_cleared_all_the_time(comfy: Comfy, tmp_path: Path) -> None:
    """A result that nobody can see is not a reason to go on for ever.

    Warm if it was seen after all, else failed.
    """
    server = pausing(comfy, tmp_path)
    over = threading.Event()

    def clear() -> None:
        while not over.is_set():
            clear_history(server)

    clearing = threading.Thread(target=clear)
    clearing.start()
    try:
        open_gate(server)
        server.wait(
            lambda: server.get("/ready").json["status"] in ("ready", "failed"), "decided", deadline=100
        )
    finally:
        over.set()
        clearing.join()
    server.run(prompts.unrelated())


def test_queue_cleared_while_a_warm_up_waits(comfy: Comfy, tmp_path: Path) -> None:
    """A user who clears the queue clears their own prompts: ours comes back."""
    (tmp_path / "preload.yaml").write_text(WARMED, encoding="utf-8")
    (tmp_path / "pause.json").write_text(json.dumps(WORKFLOW), encoding="utf-8")
    server = comfy(env={"PRELOAD_CONFIG": str(tmp_path / "preload.yaml")}, custom_nodes=PAUSE)
    for _ in range(3):
        assert 200 == server.post("/queue", {"clear": True}).status
    open_gate(server)
    server.wait_ready()


def test_no_editor_sees_our_progress(comfy: Comfy) -> None:
    """An open editor receives its own prompts' progress and none of a job's or a warm-up's."""
    server = comfy(preload="models:\n  - unet: tiny.safetensors\n")
    server.wait_ready()

    def command() -> None:
        for name in ("release", "reload", "sleep", "wake"):
            carry_out(server, name)

    async def listen() -> list[dict[str, Any]]:
        received: list[dict[str, Any]] = []
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"{server.url}/ws?clientId=editor") as socket,
        ):
            working = asyncio.create_task(asyncio.to_thread(command))
            while not working.done():
                with contextlib.suppress(TimeoutError):
                    message = await socket.receive(timeout=0.5)
                    if message.type is aiohttp.WSMsgType.TEXT:
                        received.append(json.loads(message.data))
            await working
        return received

    kinds = {message["type"] for message in asyncio.run(listen())}
    assert "status" in kinds
    assert kinds <= {"status", "feature_flags", "comfy_preload.changed"}


def test_cancel_between_two_models(comfy: Comfy) -> None:
    """The loader that runs does not look at the flag; what comes after it is not begun."""
    text = """
when: background
models:
  - {loader: TestGateLoader, inputs: {gate: open}, name: gate}
  - unet: tiny.safetensors
  - vae: taesd3
"""
    server = comfy(preload=text, custom_nodes=LOADERS)
    server.wait(lambda: "waiting at gate open" in server.log, "at the gate")
    assert 200 == server.post("/interrupt").status
    open_gate(server)
    server.wait(lambda: server.get("/ready").json["status"] == "failed", "settled")
    found = {name: (row["error"] or {}).get("code") for name, row in rows(server).items()}
    assert {"gate": None, "tiny": "interrupted", "taesd3": "interrupted"} == found
    assert "done" == carry_out(server, "reload")["state"]
    assert 200 == server.get("/ready").status


LOOKS = {
    "looks": """
import folder_paths

class TestPassesOn:
    CATEGORY, FUNCTION, RETURN_TYPES = "tests", "run", ("LATENT",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"latent": ("LATENT",)}, "hidden": {"extra_pnginfo": "EXTRA_PNGINFO"}}

    def run(self, latent, extra_pnginfo=None):
        extra_pnginfo["workflow"]["nodes"]
        return (latent,)

NODE_CLASS_MAPPINGS = {"TestPassesOn": TestPassesOn}

# a folder of data that nobody asks for, and one registered in a form that cannot be listed
folder_paths.folder_names_and_paths["datasets"] = (["/nowhere"], {".npz"})
folder_paths.folder_names_and_paths["broken"] = (None, None)
"""
}
EDITOR: dict[str, Any] = {
    "version": 0.4,
    "nodes": [
        {
            "id": 1,
            "type": "EmptyLatentImage",
            "mode": 0,
            "inputs": [],
            "outputs": [{"name": "LATENT", "type": "LATENT", "links": [1]}],
            "widgets_values": [64, 64, 1],
        },
        {
            "id": 2,
            "type": "TestPassesOn",
            "mode": 0,
            "inputs": [{"name": "latent", "type": "LATENT", "link": 1}],
            "outputs": [{"name": "LATENT", "type": "LATENT", "links": [2]}],
        },
        {
            "id": 3,
            "type": "SaveLatent",
            "mode": 0,
            "inputs": [{"name": "samples", "type": "LATENT", "link": 2}],
            "outputs": [],
            "widgets_values": ["tests"],
        },
    ],
    "links": [[1, 1, 0, 2, 0, "LATENT"], [2, 2, 0, 3, 0, "LATENT"]],
}


def test_nodes_that_look_into_the_workflow(comfy: Comfy, tmp_path: Path) -> None:
    """A warm-up from an editor file runs with the workflow at hand, as it does when the editor sends it.

    And folders of models that are registered in a form that cannot be listed cost no entry.
    """
    text = "models:\n  - unet: tiny.safetensors\nworkflows:\n  - {path: flow.json, warmup: true}\n"
    (tmp_path / "preload.yaml").write_text(text, encoding="utf-8")
    (tmp_path / "flow.json").write_text(json.dumps(EDITOR), encoding="utf-8")
    server = comfy(env={"PRELOAD_CONFIG": str(tmp_path / "preload.yaml")}, custom_nodes=LOOKS)
    server.wait_ready()
    assert "warm" == server.get("/preload").json["warmups"][0]["state"]
    assert "resident" == rows(server)["tiny"]["state"]


def test_classes_that_were_replaced(comfy: Comfy, tmp_path: Path) -> None:
    """Where ComfyUI replaces a class that is gone (0.33.0), plan and warm-up follow, as POST /prompt does."""
    if not (comfyui_path() / "app" / "node_replace_manager.py").exists():
        pytest.skip("this ComfyUI replaces no classes (COMFYUI_PATH names another)")
    replaces = {
        "replaces": """
from server import PromptServer
from comfy_api.latest import io

PromptServer.instance.node_replace_manager.register(
    io.NodeReplace(
        old_node_id="TestOldLoader", new_node_id="UNETLoader", old_widget_ids=None,
        input_mapping=[
            {"new_id": "unet_name", "old_id": "file"},
            {"new_id": "weight_dtype", "set_value": "default"},
        ],
        output_mapping=[{"new_idx": 0, "old_idx": 0}],
    )
)
NODE_CLASS_MAPPINGS = {}
"""
    }
    workflow = prompts.image()
    workflow["unet"] = {"class_type": "TestOldLoader", "inputs": {"file": "tiny.safetensors"}}
    (tmp_path / "preload.yaml").write_text(
        "workflows:\n  - {path: old.json, warmup: true}\n", encoding="utf-8"
    )
    (tmp_path / "old.json").write_text(json.dumps(workflow), encoding="utf-8")
    server = comfy(env={"PRELOAD_CONFIG": str(tmp_path / "preload.yaml")}, custom_nodes=replaces)
    server.wait_ready()
    assert {"tiny": "warm", "clip_l": "warm"} == {name: row["state"] for name, row in rows(server).items()}


def test_cancel_during_a_warm_up(comfy: Comfy, tmp_path: Path) -> None:
    """A user who cancels means their own prompt: the warm-up is run once more."""
    pause = {
        "pause": PAUSE["pause"]
        .replace(
            "            time.sleep(0.05)",
            "            time.sleep(0.05)\n            mm.throw_exception_if_processing_interrupted()",
        )
        .replace("import folder_paths", "import comfy.model_management as mm\nimport folder_paths", 1)
    }
    (tmp_path / "preload.yaml").write_text(WARMED, encoding="utf-8")
    (tmp_path / "pause.json").write_text(json.dumps(WORKFLOW), encoding="utf-8")
    server = comfy(env={"PRELOAD_CONFIG": str(tmp_path / "preload.yaml")}, custom_nodes=pause)
    server.wait(lambda: "a pause begins" in server.log, "at its pause")
    assert 200 == server.post("/interrupt").status
    server.wait(lambda: server.log.count("a pause begins") == 2, "at its pause again")
    open_gate(server)
    server.wait_ready()
