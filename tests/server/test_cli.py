"""The command line against a real ComfyUI.

It waits for one, writes down what one was asked, and makes files that one loads.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from comfy_preload.cli.loaders import LINKS, MORE
from comfy_preload.core.loader_table import LOADERS
from tests.cli.command import run, start
from tests.server.conftest import Comfy
from tests.support import prompts
from tests.support.comfy import ComfyServer, free_port
from tests.support.prompts import Prompt
from tests.support.readings import hits, misses, own_lines

NAMED = """
class NamedLoader:
    RETURN_TYPES = ("VAE",)
    FUNCTION = "load"
    CATEGORY = "tests"
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"file": ("STRING", {})}}
    def load(self, file):
        return (file,)
NODE_CLASS_MAPPINGS = {"NamedLoader": NamedLoader}
"""
PRELOAD = "models: [{unet: tiny.safetensors}, {vae: taesd3}]"


def test_wait(comfy: Comfy) -> None:
    """Begun before ComfyUI is.

    Refused at first, 0 as soon as it is ready, and a health check agrees each time.
    """
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    assert 1 == run("wait", url, "--once").code
    with start("wait", url, "--timeout", "120", "--interval", "0.1", "--json") as waiting:
        server = comfy(preload=PRELOAD, port=port, wait=False)
        out, complaint = waiting.communicate(timeout=120)

    assert (0, "") == (waiting.returncode, complaint), out
    assert '"status": "ready"' in out
    assert 200 == server.get("/ready").status
    assert 0 == run("wait", url, "--once").code
    assert 0 == run("wait", f"{url}/ready/taesd3", "--once").code


def test_wait_for_a_failed_one(comfy: Comfy) -> None:
    """The reason is reported, and nobody waits ten minutes for it."""
    server = comfy(preload="models: [{unet: absent.safetensors}]")
    done = run("wait", server.url, timeout=60)

    assert 1 == done.code
    assert "absent: absent.safetensors is in none of the " in done.err


def test_wait_without_the_plugin(comfy: Comfy) -> None:
    """ComfyUI alone has no such route; that is said."""
    done = run("wait", comfy(plugin=False).url, "--timeout", "0.5")

    assert 1 == done.code
    assert "is the plugin installed there?" in done.err


@pytest.fixture(scope="module")
def asked(module_comfy: Comfy) -> ComfyServer:
    """A ComfyUI without the plugin that ran some prompts."""
    server = module_comfy(plugin=False)
    for prompt in (*_requests(), _requests()[0]):
        server.run(prompt)
    return server


def _requests() -> list[Prompt]:
    loader = prompts.load("UpscaleModelLoader", model_name="tiny.safetensors")
    return [
        prompts.image(vae="taesd3", clip_device="default"),
        prompts.image(vae="taesd3", seed=1, lora="tiny.safetensors"),
        prompts.load("CheckpointLoaderSimple", ckpt_name="tiny.safetensors"),
        loader,
        prompts.unrelated(),
    ]


def test_capture(asked: ComfyServer, comfy: Comfy, tmp_path: Path) -> None:
    """What it writes, used for a new start, makes every one of those prompts hit."""
    written = tmp_path / "captured.yaml"
    done = run("capture", asked.url, "--output", written, "--json")
    server = comfy(preload=written.read_text(encoding="utf-8"))
    server.wait_ready()
    for prompt in _requests():
        server.run(prompt)

    assert (0, "") == (done.code, done.err)
    assert 6 == done.json["prompts"]
    assert [3, 3, 3, 1, 1] == [row["uses"] for row in done.json["models"]]
    assert {"unet": "tiny.safetensors"} in [row["entry"] for row in done.json["models"]]
    assert {"clip": "clip_l.safetensors", "type": "sd3"} in [row["entry"] for row in done.json["models"]]
    assert {"loader": "UpscaleModelLoader", "inputs": {"model_name": "tiny.safetensors"}} in [
        row["entry"] for row in done.json["models"]
    ]
    assert 5 == len(hits(server))
    assert 0 < min(hits(server).values()), own_lines(server)
    assert {} == {loader: count for loader, count in misses(server).items() if count}


def test_capture_to_the_terminal(asked: ComfyServer, tmp_path: Path) -> None:
    """Without --output the YAML is all that is written to stdout.

    An existing file is kept without --force.
    """
    written = tmp_path / "captured.yaml"
    written.write_text("mine", encoding="utf-8")

    assert run("capture", asked.url).out == run("capture", asked.url, "--json").json["yaml"]
    assert 2 == run("capture", asked.url, "--output", written).code
    assert "mine" == written.read_text(encoding="utf-8")


def test_capture_of_what_waits(comfy: Comfy) -> None:
    """Prompts in the queue count; a loader whose file name comes from a node is reported and left out."""
    server = comfy(plugin=False, custom_nodes={"named": NAMED})
    for seed in range(3):
        server.queue(prompts.image(seed=seed))
    linked = prompts.load("NamedLoader", file=["name", 0])
    linked["name"] = {"class_type": "PrimitiveString", "inputs": {"value": "tiny.safetensors"}}
    last = server.queue(linked)
    done = run("capture", server.url, "--json")
    server.result(last)

    assert 4 == done.json["prompts"]
    assert [{"unet": "tiny.safetensors"}, {"clip": "clip_l.safetensors", "type": "sd3"}] == sorted(
        (row["entry"] for row in done.json["models"]), key=lambda entry: "clip" in entry
    )
    assert ["a NamedLoader takes its file from another node; it is left out"] == done.json["warnings"]


def test_capture_of_nothing(comfy: Comfy) -> None:
    """Said, with exit code 1; so is a server that is none."""
    server = comfy(plugin=False)
    done = run("capture", server.url, "--json")
    assert (1, "capture_empty") == (done.code, done.json["error"]["code"])

    done = run("capture", f"{server.url}/nowhere", "--json")
    assert (1, "server_answer") == (done.code, done.json["error"]["code"])

    done = run("capture", f"http://127.0.0.1:{free_port()}", "--json")
    assert (1, "server_unreachable") == (done.code, done.json["error"]["code"])


def test_table_of_core_loaders(asked: ComfyServer) -> None:
    """The table of `check` has the inputs of this ComfyUI's own classes, and the values that it lists."""
    known: dict[str, Any] = asked.get("/object_info").json
    for row in LOADERS:
        loader = row.name
        declared = known[loader]["input"]
        inputs = {**declared.get("required", {}), **declared.get("optional", {})}
        written = [
            *LINKS.get(loader, ()),
            *row.files,
            *(i.name for i in MORE.get(loader, ())),
        ]
        assert inputs.keys() == set(written), loader
        for wanted in MORE.get(loader, ()):
            assert wanted.required == (wanted.name in declared["required"]), loader
            options = inputs[wanted.name][0]
            if wanted.options is not None:
                assert list(wanted.options) == options, loader
            if wanted.type == "COMBO":
                assert wanted.default == options[0], loader


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [pytest.param("fp16", 1e-3, id="fp16"), pytest.param("bf16", 1e-2, id="bf16")]
)
def test_converted_gives_the_same(comfy: Comfy, own_models: Path, dtype: str, tolerance: float) -> None:
    """An fp32 diffusion model and its converted copy sample the same latent from half the bytes."""
    folder = own_models / "diffusion_models"
    _widen(folder / "tiny.safetensors", folder / "wide.safetensors")
    assert (
        0 == run("convert", folder / "wide.safetensors", folder / "narrow.safetensors", "--dtype", dtype).code
    )
    server = comfy(plugin=False, models=own_models)
    latents = [_latent(server, f"{name}.safetensors") for name in ("wide", "narrow", "tiny", "other")]
    wide, narrow, unperturbed, other = latents

    assert (folder / "narrow.safetensors").stat().st_size < 0.51 * (
        folder / "wide.safetensors"
    ).stat().st_size
    assert np.isfinite(wide).all()
    assert _distance(wide, narrow) < tolerance
    assert 0 < _distance(wide, unperturbed)
    assert 10 * tolerance < _distance(wide, other)


def _widen(source: Path, target: Path) -> None:
    """fp32 weights that fp16 has to round: each a little beside a number that fp16 has."""
    random = np.random.default_rng(0)
    beside: Callable[[NDArray[Any]], NDArray[Any]] = lambda a: 1 + 2e-4 * random.standard_normal(a.shape)  # noqa: E731 — one use
    save_file(
        {
            name: (a.astype(np.float64) * beside(a)).astype(np.float32)
            for name, a in load_file(source).items()
        },
        target,
    )


def _latent(server: ComfyServer, unet: str) -> NDArray[Any]:
    saved = server.run(prompts.image(unet=unet))["outputs"]["save"]["latents"][0]
    return load_file(server.base / "output" / saved["subfolder"] / saved["filename"])["latent_tensor"]


def _distance(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Root mean square of the difference, as a share of the first one's."""
    return float(np.sqrt(np.mean((one - other) ** 2) / np.mean(one**2)))
