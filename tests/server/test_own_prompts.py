"""What others do to the prompts that are ours: clear the history or the queue, press cancel, watch the editor's socket."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from pathlib import Path
from typing import Any

import aiohttp

from tests.server.conftest import Comfy
from tests.support import prompts
from tests.support.comfy import ComfyServer
from tests.support.commands import carry_out
from tests.support.readings import CUSTOM_NODES, rows

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
    """A result that nobody can see is no reason to go on for ever: warm if it was seen after all, else failed."""
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
    """Whoever clears the queue clears their own prompts: ours comes back."""
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
