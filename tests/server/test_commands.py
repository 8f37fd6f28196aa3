"""reload, release, sleep and wake on a real ComfyUI.

What is loaded afterwards, what /ready says, and what a failure leaves.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.server.conftest import Comfy
from tests.support import models as tiny
from tests.support import prompts
from tests.support.comfy import ComfyServer
from tests.support.commands import carry_out, order
from tests.support.readings import CUSTOM_NODES, hits, own_lines, rows

UNET = prompts.load("UNETLoader", unet_name="tiny.safetensors", weight_dtype="default")
OTHER = prompts.load("UNETLoader", unet_name="other.safetensors", weight_dtype="default")
VAE = prompts.load("VAELoader", vae_name="taesd3")
PRELOAD = """
models:
  - unet: tiny.safetensors
  - vae: taesd3
    required: false
"""
LOADERS = {"loaders": CUSTOM_NODES / "loaders"}


@pytest.fixture(scope="module")
def started(module_comfy: Comfy, module_models: Path) -> ComfyServer:
    server = module_comfy(preload=PRELOAD, models=module_models, custom_nodes=LOADERS)
    server.wait_ready()
    return server


@pytest.fixture
def server(started: ComfyServer) -> ComfyServer:
    """The one server of this file, with its models as fresh as after a start."""
    (started.base / "input" / "open").unlink(missing_ok=True)
    write(started, PRELOAD)
    for command in ("wake", "release", "reload"):
        assert "done" == carry_out(started, command)["state"]
    return started


def write(server: ComfyServer, text: str) -> None:
    (server.base / "preload.yaml").write_text(text, encoding="utf-8")


def status(server: ComfyServer) -> tuple[int, str]:
    reply = server.get("/ready")
    return reply.status, reply.json["status"]


def states(server: ComfyServer) -> dict[str, str]:
    return {name: row["state"] for name, row in rows(server).items()}


def test_sleep_and_wake(server: ComfyServer) -> None:
    """Weights leave the device and come back.

    Nothing is loaded again, and /ready says that no traffic is wanted meanwhile.
    """
    before = server.sink(UNET)["any"]["id"]
    loaded = sum("loaded tiny" in line for line in own_lines(server))
    assert "done" == carry_out(server, "sleep")["state"]
    assert (503, "sleeping") == status(server)
    assert {"tiny": "evicted", "taesd3": "evicted"} == states(server)
    assert {0} == {row["bytes_on_device"] for row in rows(server).values()}
    assert 200 == server.get("/ready/tiny").status, "loaded, though not on its device"
    assert "done" == carry_out(server, "sleep")["state"], "to sleep twice is not an error"

    assert {"tiny", "taesd3"} == set(carry_out(server, "wake")["loaded"])
    assert (200, "ready") == status(server)
    assert {"resident"} == set(states(server).values())
    assert before == server.sink(UNET)["any"]["id"]
    assert loaded == sum("loaded tiny" in line for line in own_lines(server))


def test_release_and_reload(server: ComfyServer) -> None:
    """A released model is gone from memory: optional, 200 degraded; required, 503.

    `reload` brings both back.
    """
    first = server.sink(VAE)["any"]["id"]
    assert ["taesd3"] == carry_out(server, "release", "taesd3")["released"]
    assert (200, "degraded") == status(server)
    assert {"tiny": "resident", "taesd3": "released"} == states(server)
    assert 503 == server.get("/ready/taesd3").status

    assert ["tiny"] == carry_out(server, "release")["released"]
    assert (503, "degraded") == status(server)

    done = carry_out(server, "reload")
    assert (["tiny", "taesd3"], [], []) == (done["loaded"], done["kept"], done["released"])
    assert (200, "ready") == status(server)
    assert {"resident"} == set(states(server).values())
    server.run(prompts.unrelated())
    assert first != server.sink(VAE)["any"]["id"]
    assert 1 == hits(server)["taesd3"]


def test_released_model_comes_back_by_use(server: ComfyServer) -> None:
    carry_out(server, "release")
    server.run(UNET)
    assert "staged" == states(server)["tiny"]
    assert (200, "degraded") == status(server)


def test_reload_takes_what_is_new_and_leaves_what_is_the_same(server: ComfyServer) -> None:
    kept = server.sink(UNET)["any"]["id"]
    write(server, "models:\n  - {unet: tiny.safetensors, name: base}\n  - unet: other.safetensors\n")
    done = carry_out(server, "reload")
    assert (["other"], ["base"], ["taesd3"]) == (done["loaded"], done["kept"], done["released"])
    assert {"base": "resident", "other": "resident"} == states(server)
    server.run(prompts.unrelated())
    assert kept == server.sink(UNET)["any"]["id"]
    server.run(OTHER)
    assert {"base": 2, "other": 1} == hits(server)

    vae = server.sink(VAE)["any"]["id"]
    server.run(prompts.unrelated())
    assert vae != server.sink(VAE)["any"]["id"], "its loader is as ComfyUI made it again"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("models: [\n", "is not valid YAML"),
        ("modles:\n  - unet: tiny.safetensors\n", "unknown key 'modles'"),
        (PRELOAD + "  - unet: tinyy.safetensors\n", "tinyy: tinyy.safetensors is in none of"),
        (
            PRELOAD + "  - unet: other.safetensors\n  - unet: broken.safetensors\n",
            "broken: broken.safetensors is empty",
        ),
    ],
)
def test_reload_that_would_break_something_keeps_the_old(server: ComfyServer, text: str, why: str) -> None:
    """All or nothing: what worked goes on working, the job says why nothing changed."""
    (server.models / "diffusion_models" / "broken.safetensors").touch()
    kept = server.sink(UNET)["any"]["id"]
    write(server, text)
    failed = carry_out(server, "reload")
    assert ("failed", "reload_kept_old") == (failed["state"], failed["error"]["code"])
    assert why in failed["error"]["message"]
    assert (200, "ready") == status(server)
    assert {"tiny": "resident", "taesd3": "resident"} == states(server)
    server.run(prompts.unrelated())
    assert kept == server.sink(UNET)["any"]["id"]
    assert str(server.base) not in str(failed)

    write(server, PRELOAD)
    assert ["tiny", "taesd3"] == carry_out(server, "reload")["kept"]


def test_reload_after_a_file_was_replaced(server: ComfyServer) -> None:
    """By a broken one: the old stays. By a good one: the new, before any prompt asks for it."""
    file = server.models / "diffusion_models" / "tiny.safetensors"
    old = server.sink(UNET)["any"]
    file.unlink()
    file.write_bytes(b"<html>")
    assert "failed" == carry_out(server, "reload", "tiny")["state"]
    assert "resident" == states(server)["tiny"]
    file.unlink()
    tiny.tiny_unet(file, seed=7)
    assert ["tiny"] == carry_out(server, "reload", "tiny")["loaded"]
    before = hits(server)["tiny"]
    server.run(prompts.unrelated())
    new = server.sink(UNET)["any"]
    assert old["weights"] != new["weights"]
    assert before + 1 == hits(server)["tiny"]


def test_failed_model_is_retried_when_asked(comfy: Comfy, own_models: Path) -> None:
    """/ready stays 503 until someone mends the file and sends `reload`."""
    server = comfy(preload=PRELOAD.replace("tiny.", "late."), models=own_models)
    assert (503, "failed") == status(server)
    shutil.copyfile(
        own_models / "diffusion_models" / "tiny.safetensors",
        own_models / "diffusion_models" / "late.safetensors",
    )
    assert (503, "failed") == status(server)
    assert ["late"] == carry_out(server, "reload", "late")["loaded"]
    assert (200, "ready") == status(server)


def test_reload_where_nothing_was_listed(comfy: Comfy) -> None:
    """The plugin was inert; the YAML was written since."""
    server = comfy(preload="")
    assert (200, "ready") == status(server)
    write(server, PRELOAD)
    assert ["tiny", "taesd3"] == carry_out(server, "reload")["loaded"]
    server.run(UNET)
    assert {"tiny": 1, "taesd3": 0} == hits(server)


def test_same_command_twice_is_one_job(server: ComfyServer) -> None:
    """A command waits for the prompt that runs.

    The same one again gets the same id; a cleared queue does not lose it.
    """
    gate = server.queue(prompts.load("TestGateLoader", gate="open", heeds_cancel=True))
    server.wait(lambda: "waiting at gate open" in server.log, "at the gate")
    first, second, other = order(server, "sleep"), order(server, "sleep"), order(server, "release", "taesd3")
    assert first.json["id"] == second.json["id"] != other.json["id"]
    assert "queued" == server.get(first.headers["Location"]).json["state"]

    assert 200 == server.post("/queue", {"clear": True}).status
    (server.base / "input" / "open").touch()
    server.result(gate)
    for job in (first, other):
        server.wait(
            lambda job=job: server.get(job.headers["Location"]).json["state"] == "done", "done", deadline=30
        )
    assert (503, "sleeping") == status(server)
    assert "released" == states(server)["taesd3"]


def test_too_early(comfy: Comfy) -> None:
    """While models are being loaded a command is refused, with the time to wait."""
    text = (
        "when: background\nmodels:\n  - {loader: TestGateLoader, inputs: {gate: open, heeds_cancel: "
        "true}, name: gate}\n"
    )
    server = comfy(preload=text, custom_nodes=LOADERS)
    server.wait(lambda: "waiting at gate open" in server.log, "at the gate")
    refused = order(server, "reload")
    assert (409, "command_too_early") == (refused.status, refused.json["error"]["code"])
    assert int(refused.headers["Retry-After"]) >= 1
    (server.base / "input" / "open").touch()
    server.wait_ready()
    assert "done" == carry_out(server, "reload")["state"]


def test_memory_floor(comfy: Comfy) -> None:
    """Below the floor the least recently used optional model goes, then the next; a required one never."""
    text = """
memory_floor: 0.999
models:
  - unet: tiny.safetensors
  - {vae: taesd3, required: false}
  - {unet: other.safetensors, required: false}
"""
    server = comfy(preload=text)

    def released() -> list[str]:
        return [name for name, state in states(server).items() if state == "released"]

    server.wait(lambda: len(released()) == 2, "short of memory", deadline=30)
    assert "tiny" not in released()
    assert (200, "degraded") == status(server)
    lines = [line for line in own_lines(server) if "of the memory is available" in line]
    assert ["taesd3", "other"] == [line.rsplit(" ", 1)[1] for line in lines]
    jobs: list[dict[str, Any]] = server.get("/preload").json["jobs"]
    assert ["memory", "memory"] == [job["reason"] for job in jobs]
    assert {"tiny": 0, "taesd3": 1, "other": 1} == {
        name: row["evictions"] for name, row in rows(server).items()
    }


@pytest.mark.parametrize(
    ("words", "alive"),
    [("CUDA error: an illegal memory access was encountered", False), ("CUDA error: out of memory", True)],
)
def test_device_error_in_a_prompt(comfy: Comfy, words: str, alive: bool) -> None:  # noqa: FBT001 — a table's column
    """An error that the device does not recover from ends liveness for good; out-of-memory never does."""
    server = comfy(preload=PRELOAD, custom_nodes={"faults": CUSTOM_NODES / "faults"})
    server.wait_ready()
    failed = server.queue({"1": {"class_type": "TestDeviceError", "inputs": {"words": words}}})
    server.wait(lambda: failed in server.get("/history").json, "done with the failing prompt")
    if alive:
        server.wait(lambda: server.get("/preload").json["queue_remaining"] == 0, "idle")
        server.run(UNET)
        assert (200, 200) == (server.get("/livez").status, server.get("/ready").status)
        return
    server.wait(lambda: server.get("/livez").status == 503, "not alive any more", deadline=10)
    assert (503, "failed") == status(server)
    assert "device_fault" in server.get("/livez").text
    server.run(UNET)
    assert 503 == server.get("/livez").status
