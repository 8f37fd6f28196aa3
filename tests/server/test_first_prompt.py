"""The promise.

Once the port is open, stock loader nodes hand out what is loaded, and no prompt reads a model file.

As soon as the server is ready the header of every preloaded file is broken in place, so that what opened
one would fail.
"""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.server.conftest import Comfy
from tests.support import prompts
from tests.support.comfy import LOOPBACK, ComfyServer, PromptFailedError, Reply
from tests.support.prompts import Prompt
from tests.support.readings import CUSTOM_NODES, every_body, hits, misses, poison, rows

pytestmark = pytest.mark.cold

PRELOAD = """
timeout: 100
models:
  - unet: tiny.safetensors
  - checkpoint: tiny.safetensors
    name: whole
  - clip: clip_l.safetensors
    type: sd3
  - vae: tiny.safetensors
    name: vae
  - vae: taesd3
  - vae: taesd
    name: in ram
    device: ram
  - loader: UpscaleModelLoader
    inputs: {model_name: tiny.safetensors}
    name: upscale
  - loader: TestGateLoader
    inputs: {gate: open}
    name: gate
"""
READ = (
    *(
        "diffusion_models/tiny.safetensors",
        "checkpoints/tiny.safetensors",
        "text_encoders/clip_l.safetensors",
    ),
    *(
        "vae/tiny.safetensors",
        "vae_approx/taesd3_encoder.safetensors",
        "vae_approx/taesd3_decoder.safetensors",
    ),
    *(
        "vae_approx/taesd_encoder.safetensors",
        "vae_approx/taesd_decoder.safetensors",
        "upscale_models/tiny.safetensors",
    ),
)


class Started(NamedTuple):
    """A server, and what was seen while it started."""

    server: ComfyServer
    refused: bool
    """Was the port closed while the last model was loading?"""
    first: Reply
    """The first answer that /ready ever gave."""
    rows: dict[str, dict[str, Any]]
    """The models as they were before any prompt."""
    log: str
    """The log up to there."""


@pytest.fixture(scope="module")
def started(module_comfy: Comfy, module_models: Path) -> Started:
    nodes = {"loaders": CUSTOM_NODES / "loaders"}
    server = module_comfy(preload=PRELOAD, models=module_models, custom_nodes=nodes, wait=False)
    server.wait(lambda: "waiting at gate open" in server.log, "at the last model")
    with socket.socket() as probe:
        refused = probe.connect_ex((LOOPBACK, server.port)) != 0
    (server.base / "input" / "open").touch()
    server.wait_listening()
    first = server.get("/ready?verbose")
    poison(module_models, READ)
    return Started(server, refused, first, rows(server), server.log)


@pytest.fixture(scope="module")
def server(started: Started) -> ComfyServer:
    return started.server


def test_port_opens_when_all_is_loaded(started: Started) -> None:
    """Nothing listens while models load; the very first answer of /ready is 200."""
    assert started.refused
    assert (200, "ready") == (started.first.status, started.first.json["status"])
    counts = {key: started.first.json["models"][key] for key in ("total", "ready", "failed")}
    assert {"total": 8, "ready": 8, "failed": 0} == counts
    assert {} == started.first.json["failing"]
    assert 1.0 == started.first.json["progress"]["fraction"]


def test_every_model_is_where_it_was_asked_for(started: Started) -> None:
    """`device: gpu` is resident on ComfyUI's device, `ram` was loaded and not moved."""
    assert {"resident"} == {row["state"] for row in started.rows.values()}
    pushed = [
        row for name, row in started.rows.items() if name in ("tiny", "whole", "clip_l", "vae", "taesd3")
    ]
    assert all(row["bytes_on_device"] > 0 for row in pushed)
    assert 0 == started.rows["in ram"]["bytes_on_device"]
    assert 0 < started.rows["in ram"]["bytes"]


def test_routes_are_there_twice(server: ComfyServer) -> None:
    """ComfyUI offers each route under /api too."""
    for path in ("/ready", "/ready/tiny", "/ready/in%20ram", "/livez", "/preload"):
        assert (200, 200) == (server.get(path).status, server.get(f"/api{path}").status)
    assert (404, 404) == (server.get("/ready/none").status, server.get("/api/ready/none").status)


@pytest.mark.parametrize(
    ("name", "prompt"),
    [
        pytest.param(
            "tiny",
            prompts.load("UNETLoader", unet_name="tiny.safetensors", weight_dtype="default"),
            id="unet",
        ),
        pytest.param(
            "whole", prompts.load("CheckpointLoaderSimple", ckpt_name="tiny.safetensors"), id="checkpoint"
        ),
        pytest.param(
            "clip_l",
            prompts.load("CLIPLoader", clip_name="clip_l.safetensors", type="sd3"),
            id="clip-without-device",
        ),
        pytest.param(
            "clip_l",
            prompts.load("CLIPLoader", clip_name="clip_l.safetensors", type="sd3", device="default"),
            id="clip-with-device",
        ),
        pytest.param("vae", prompts.load("VAELoader", vae_name="tiny.safetensors"), id="vae"),
        pytest.param("taesd3", prompts.load("VAELoader", vae_name="taesd3"), id="tiny-vae-of-two-files"),
        pytest.param("in ram", prompts.load("VAELoader", vae_name="taesd"), id="ram"),
        pytest.param("upscale", prompts.load("UpscaleModelLoader", model_name="tiny.safetensors"), id="v3"),
    ],
)
def test_stock_loader_hits(server: ComfyServer, name: str, prompt: Prompt) -> None:
    """The same object each time, also after a workflow without it, and each time a hit."""
    before, missed = hits(server)[name], misses(server)

    first = server.sink(prompt)["any"]["id"]
    server.run(prompts.unrelated())
    second = server.sink(prompt)["any"]["id"]

    assert first == second
    assert 1 <= hits(server)[name] - before <= 2  # 1 where the executor's own cache outlives other workflows
    assert missed == misses(server)


def test_device_widget_makes_no_difference(server: ComfyServer) -> None:
    """The front end sends `device: default`, programs leave it out: one model."""
    named = [{"device": "default"}, {}]
    loads = [
        prompts.load("CLIPLoader", clip_name="clip_l.safetensors", type="sd3", **extra) for extra in named
    ]

    assert 1 == len({server.sink(load)["any"]["id"] for load in loads})


def test_node_ids_make_no_difference(server: ComfyServer) -> None:
    """A graph of someone else, with other node ids, gets the same object."""
    prompt = prompts.load("UNETLoader", unet_name="tiny.safetensors", weight_dtype="default")
    other = {"17": prompt["loader"], "4:2": {"class_type": "Sink", "inputs": {"any": ["17", 0]}}}

    assert server.sink(prompt)["any"]["id"] == server.sink(other)["any"]["id"]


def test_image_without_reading(server: ComfyServer) -> None:
    """Text to image runs on models whose files can no longer be read, and again after another workflow."""
    names = ("tiny", "clip_l", "taesd3")
    before = hits(server)

    for seed in (1, 2):
        server.run(prompts.unrelated(color=seed))
        entry = server.run(prompts.image(vae="taesd3", clip_device="default", seed=seed))
        assert 1 == len(entry["outputs"]["preview"]["images"])

    assert all(hits(server)[name] > before[name] for name in names)


def test_unplanned_inputs_are_loaded_as_ever(server: ComfyServer) -> None:
    """A watched loader asked for something that is not in the plan runs, and counts as a miss."""
    before, missed = hits(server), misses(server).get("UNETLoader", 0)

    other = server.sink(prompts.load("UNETLoader", unet_name="other.safetensors", weight_dtype="default"))
    planned = server.sink(prompts.load("UNETLoader", unet_name="tiny.safetensors", weight_dtype="default"))

    assert missed + 1 == misses(server)["UNETLoader"]
    assert before["tiny"] + 1 >= hits(server)["tiny"]
    assert other["any"]["weights"] != planned["any"]["weights"]


def test_broken_header_would_be_noticed(server: ComfyServer) -> None:
    """What these tests rest on: the same file, asked for with another input, is read and fails."""
    with pytest.raises(PromptFailedError, match=r"SafetensorError|header"):
        server.run(prompts.load("UNETLoader", unet_name="tiny.safetensors", weight_dtype="fp8_e4m3fn"))

    assert "resident" == rows(server)["tiny"]["state"]


def test_job_leaves_no_trace(started: Started) -> None:
    """The preload ran on the prompt queue, but the history holds users' prompts only; the queue is empty."""
    server = started.server
    user = server.queue(prompts.unrelated())
    server.result(user)

    server.wait(
        lambda: "ComfyPreload_Job" not in server.get("/history").text,
        "rid of the job's history entry",
        deadline=15,
    )
    assert user in server.get("/history").json
    assert {"queue_running": [], "queue_pending": []} == server.get("/queue").json


@pytest.mark.parametrize("job", ["", "x", "00000000-0000-0000-0000-000000000000"])
def test_job_node_in_a_graph_fails_cleanly(server: ComfyServer, job: str) -> None:
    """A user's graph with the plugin's internal node fails with a sentence, and the next prompt runs."""
    with pytest.raises(PromptFailedError, match="queued by Comfy Preload itself"):
        server.run({"1": {"class_type": "ComfyPreload_Job", "inputs": {"job": job}}})

    server.run(prompts.unrelated(color=3))


def test_log_can_be_followed(started: Started) -> None:
    """One line for the plan, one for each model, one for the move, a summary at the end; no traceback."""
    lines = [line for line in started.log.splitlines() if "[preload]" in line]

    assert 1 == sum("plan: 8 of 8 models to load" in line for line in lines)
    for name in (
        "tiny (UNETLoader)",
        "whole (Check",
        "clip_l (CLIPLoader)",
        "taesd3 (VAELoader)",
        "upscale (UpscaleModelLoader)",
    ):
        assert 1 == sum(f"loaded {name}" in line and "GB/s" in line for line in lines)
    assert 1 == sum("moved: " in line and " on cpu" in line for line in lines)
    assert "ready: 8 models loaded, 0 failed" in lines[-1]
    assert "Traceback" not in started.log


def test_answers_hold_no_path(server: ComfyServer) -> None:
    """No route shows where anything is on this machine."""
    assert str(server.base) not in every_body(server)
    assert "/models/" not in every_body(server)
