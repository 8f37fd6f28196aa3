"""One server with every entry that can be wrong, between good ones.

Each gets code, sentence and hint, none costs another.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.server.conftest import Comfy, fill
from tests.support import prompts
from tests.support.bad_files import write_bad_files
from tests.support.comfy import ComfyServer
from tests.support.readings import CUSTOM_NODES, every_body, own_lines, rows


class Bad(NamedTuple):
    """An entry, and what must be said of it: patterns that message and hint contain."""

    entry: str
    code: str
    message: str
    hint: str


VARIABLE = "hunter2"
FETCH = "[Dd]ownload the file again"
BAD = {
    # looked up
    "missing": Bad(
        "unet: tinny.safetensors",
        "file_missing",
        r"tinny\.safetensors is in none of the [0-9] folders",
        r"tiny\.safetensors",
    ),
    "empty": Bad("unet: empty.safetensors", "file_empty", r"empty\.safetensors is empty", FETCH),
    "page": Bad("unet: page.safetensors", "file_not_safetensors", "starts like an HTML page", "login"),
    "pointer": Bad("unet: pointer.safetensors", "file_not_safetensors", "Git LFS pointer", "git lfs pull"),
    "garbage": Bad(
        "unet: garbage.safetensors", "file_not_safetensors", "claims a header of [0-9,]+ bytes", FETCH
    ),
    "no-json": Bad("unet: no json.safetensors", "file_not_safetensors", "not a JSON table", FETCH),
    "huge-header": Bad(
        "unet: huge header.safetensors", "file_not_safetensors", "1,152,921,504,606,846,976 bytes", FETCH
    ),
    "truncated": Bad(
        "unet: truncated.safetensors", "file_truncated", "[0-9,]+ bytes; its header describes [0-9,]+", FETCH
    ),
    "sparse": Bad("unet: sparse.safetensors", "too_big", r"2,199\.\d+ GB, but only", "fp16 or fp8"),
    "climbing": Bad(
        "vae: ../checkpoints/tiny.safetensors",
        "file_missing",
        "is in none of the 2 folders searched for vae",
        r"Nearest: tiny\.safetensors",
    ),
    "climbing-far": Bad(
        "unet: ../../../../../../../etc/passwd",
        "file_missing",
        "is in none of the [0-9] folders",
        "Put it into",
    ),
    "absolute": Bad(
        "unet: {models}/diffusion_models/tiny.safetensors",
        "file_missing",
        "in none of the",
        r"tiny\.safetensors",
    ),
    "variable": Bad(
        'unet: "${HUB_TOKEN}.safetensors"',
        "file_missing",
        r"^\$\{HUB_TOKEN\}\.safetensors is in none",
        r"Put it into models/diffusion_models\.",
    ),
    "unknown-loader": Bad(
        "loader: UNETLoder", "loader_unknown", "'UNETLoder' is not among the [0-9]+", "mean 'UNETLoader'"
    ),
    "pack-that-failed": Bad(
        "loader: UNETLoaderMultiGPU",
        "loader_unknown",
        "'UNETLoaderMultiGPU' is not among",
        r"IMPORT FAILED in its log: fails\.in_v3, fails_to_import\.",
    ),
    "unknown-input": Bad(
        "{unet: tiny.safetensors, weigth_dtype: default}",
        "input_unknown",
        "'weigth_dtype'",
        "mean 'weight_dtype'",
    ),
    "not-allowed": Bad(
        "{unet: tiny.safetensors, weight_dtype: fp8_e4m3}",
        "value_not_allowed",
        "'fp8_e4m3'",
        "mean 'fp8_e4m3fn'",
    ),
    "input-missing": Bad("loader: UNETLoader", "input_missing", "needs the input 'unet_name'", "unet_name:"),
    "takes-a-model": Bad(
        "{loader: LoraLoaderModelOnly, inputs: {lora_name: tiny.safetensors}}",
        "loader_takes_model",
        "needs a MODEL",
        "Preload the",
    ),
    "broken-inputs": Bad("loader: TestBrokenInputsLoader", "load_failed", "KeyError", "ComfyUI's log"),
    "two-kinds": Bad(
        "{unet: tiny.safetensors, vae: tiny.safetensors}", "entry_unclear", "unet and vae", "entry"
    ),
    # loaded
    "bomb": Bad("checkpoint: bomb.ckpt", "load_refused", "holds more than weights", "safetensors"),
    "vae-as-unet": Bad(
        "unet: a vae.safetensors",
        "load_failed",
        "Could not detect model type of: a vae",
        "the kind that this loader reads",
    ),
    "raises": Bad(
        "loader: TestRaisingLoader",
        "load_failed",
        "RuntimeError: cannot use",
        "traceback is in ComfyUI's log",
    ),
    "exits": Bad("loader: TestExitLoader", "load_exit", "no licence key", "just above"),
    "hungry": Bad("loader: TestHungryLoader", "out_of_memory", "memory ran out", "more memory"),
    "dict": Bad("loader: TestDictLoader", "load_output", "a dict without a result", "directly"),
    "blocks": Bad("loader: TestBlockingLoader", "load_output", "blocks what follows", "directly"),
    "nothing": Bad("loader: TestNothingLoader", "load_output", "a NoneType", "directly"),
    "expands": Bad("loader: TestExpandingLoader", "load_output", "a NodeOutput with expand", "directly"),
}
FAILING = {
    "fails_to_import": "import a_module_that_nobody_has",
    "fails.in_v3": "async def comfy_entrypoint():\n    raise RuntimeError('no')\n",
    "fine": "NODE_CLASS_MAPPINGS = {}\nWEB_DIRECTORY = '.'\n",
}
"""Packs that ComfyUI cannot import, and one that it can though it has no node."""
GOOD = {
    "good-unet": "unet: tiny.safetensors",
    "good-vae": "vae: taesd3",
    "good-checkpoint": "checkpoint: tiny.safetensors",
    "good-progress": "loader: TestProgressLoader",
    "good-upscaler": "{loader: UpscaleModelLoader, inputs: {model_name: tiny.safetensors}}",
}


class Seen(NamedTuple):
    """The server, and what it said before any prompt."""

    server: ComfyServer
    failing: dict[str, dict[str, Any]]
    rows: dict[str, dict[str, Any]]
    bomb_target: Path


def _settings(models: Path) -> str:
    """Good entries stand first, last and between the bad ones."""
    good = list(GOOD.items())
    lines: list[tuple[str, str]] = good[:2]
    for place, (name, bad) in enumerate(BAD.items()):
        lines.append((name, bad.entry.replace("{models}", str(models))))
        lines += [good[2]] if place == len(BAD) // 2 else []
    lines += good[3:]
    return "models:\n" + "\n".join(f"  - {_named(entry, name)}" for name, entry in lines) + "\n"


def _named(entry: str, name: str) -> str:
    inner = entry.removeprefix("{").removesuffix("}") if entry.startswith("{") else entry
    return f"{{{inner}, name: {name}}}"


@pytest.fixture(scope="module")
def seen(module_comfy: Comfy, tmp_path_factory: pytest.TempPathFactory) -> Seen:
    base = tmp_path_factory.mktemp("bad")
    models = fill(base / "models")
    write_bad_files(models, base / "exploded")
    nodes = {name: CUSTOM_NODES / name for name in ("loaders", "faults")}
    server = module_comfy(
        preload=_settings(models),
        models=models,
        custom_nodes={**nodes, **FAILING},
        env={"HUB_TOKEN": VARIABLE},
    )
    failing: dict[str, dict[str, Any]] = server.get("/ready").json["failing"]
    return Seen(server, failing, rows(server), base / "exploded")


@pytest.fixture(scope="module")
def server(seen: Seen) -> ComfyServer:
    return seen.server


@pytest.mark.parametrize("name", BAD)
def test_bad_entry_is_explained(seen: Seen, name: str) -> None:
    """Code, sentence with what was found, hint, and its line.

    The model is failed, and its own route says the same.
    """
    wanted, error = BAD[name], seen.failing[name]

    assert wanted.code == error["code"]
    assert re.search(wanted.message, error["message"])
    assert re.search(wanted.hint, error["hint"])
    assert f"name: {name}}}" in _line(seen.server, error["line"])
    assert ("failed", error) == (seen.rows[name]["state"], seen.rows[name]["error"])
    assert 503 == seen.server.get(f"/ready/{name}").status


def _line(server: ComfyServer, number: int) -> str:
    return (server.base / "preload.yaml").read_text(encoding="utf-8").splitlines()[number - 1]


@pytest.mark.parametrize("name", GOOD)
def test_good_entry_is_loaded(seen: Seen, name: str) -> None:
    """Whatever stands around it."""
    assert ("resident", None) == (seen.rows[name]["state"], seen.rows[name]["error"])
    assert 200 == seen.server.get(f"/ready/{name}").status


def test_not_ready(server: ComfyServer) -> None:
    """`on_error: unready`, the default: 503 for good, all counted, and the server works."""
    ready = server.get("/ready")

    assert (503, "failed") == (ready.status, ready.json["status"])
    counts = {"total": len(BAD) + len(GOOD), "ready": len(GOOD), "failed": len(BAD), "not_preloaded": 0}
    assert counts == ready.json["models"]
    assert BAD.keys() == ready.json["failing"].keys()
    assert int(ready.headers["Retry-After"]) >= 1
    before = rows(server)["good-unet"]["hits"]
    server.run(prompts.image(vae="taesd3"))
    assert before + 1 == rows(server)["good-unet"]["hits"]


def test_no_code_was_run(seen: Seen) -> None:
    """The pickle would have created a file."""
    assert not seen.bomb_target.exists()


def test_answers_hold_no_path(server: ComfyServer) -> None:
    """Not even where a loader's own words, or the settings, hold one.

    What was written with `..` is shown as it stands.
    """
    shown = every_body(server).replace("../checkpoints/tiny", "")

    assert [] == [
        secret
        for secret in (str(server.base), str(server.models.resolve()), "/models", "/checkpoints", VARIABLE)
        if secret in shown
    ]


def test_log_explains_each(server: ComfyServer) -> None:
    """A line for each in the log, with its place in the settings, and a summary at the end."""
    lines = own_lines(server)

    for name, bad in BAD.items():
        assert [] != [line for line in lines if f" {name}: preload.yaml:" in line and f"[{bad.code}]" in line]
    found = [line for line in lines if f"failed: {len(GOOD)} models loaded, {len(BAD)} failed (" in line]
    assert 1 == len(found)
    assert all(name in found[0] for name in list(BAD)[:20])
    assert f" and {len(BAD) - 20} more), " in found[0]
