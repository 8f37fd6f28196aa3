"""The table of ComfyUI's loaders is complete, and its copies outside Python are equal."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from typing import Any

import pytest

from comfy_preload.core.loader_table import (
    BY_NAME,
    KIND_FOLDERS,
    LOADERS,
    MODEL_FILES,
    folder_of,
    kind_of,
    named_files,
    short_form,
)
from comfy_preload.core.node_types import NodeInput, NodeSpec
from comfy_preload.core.settings.schema import ENTRIES
from comfy_preload.core.workflow.loaders import MODEL_ENDINGS, MODEL_TYPES, is_loader
from tools.host import ROOT

GATEWAY = ROOT / "deploy" / "helm" / "comfyui-preload" / "files" / "gateway" / "gateway.js"
WINDOW = (ROOT / "web" / "loaders.js").read_text(encoding="utf-8")

SHORT = [one for one in LOADERS if one.kind != "loader"]
CASES = [
    pytest.param([], ["MODEL", "CLIP", "VAE"], "CheckpointLoaderSimple", id="checkpoint"),
    pytest.param([], ["STYLE_MODEL"], "StyleModelLoader", id="style"),
    pytest.param([], ["GLIGEN"], "GLIGENLoader", id="gligen"),
    pytest.param([], ["UPSCALE_MODEL"], "UpscaleModelLoader", id="upscaler"),
    pytest.param([], ["AUDIO_ENCODER"], "AudioEncoderLoader", id="ending"),
    pytest.param(["STRING"], ["WANVIDEOMODEL"], "WanVideoModelLoader", id="plugin"),
    pytest.param(["MODEL"], ["MODEL"], "LoraLoaderModelOnly", id="takes-a-model"),
    pytest.param([], ["IMAGE", "MASK"], "LoadImage", id="no-model"),
    pytest.param([], ["image,model"], "Mixed", id="several-types"),
    pytest.param([], ["MODEL", "CLIP", "VAE"], "ComfyPreload_Model", id="ours"),
    pytest.param([], [], "Note", id="nothing"),
]


def texts(name: str, source: str) -> list[str]:
    """The strings in `const NAME = […]`."""
    found = re.search(rf"const {name} = \[([^\]]*)\]", source)
    assert found, name
    return re.findall(r"[\"']([^\"']+)[\"']", found[1])


def test_names() -> None:
    """Each class has one row."""
    assert len(LOADERS) == len(BY_NAME)


@pytest.mark.parametrize(("kind", "counts"), [("checkpoint", 1), ("unet", 1), ("clip", 4), ("vae", 1)])
def test_short_forms(kind: str, counts: int) -> None:
    """Every kind of entry has one class for each number of files that the settings accept."""
    for count in range(1, counts + 1):
        loader = short_form(kind, count)

        assert (kind, count) == (kind_of(loader.name), len(loader.files))
        assert {KIND_FOLDERS[kind]} == set(loader.files.values())
    with pytest.raises(StopIteration):
        short_form(kind, counts + 1)


def test_kinds() -> None:
    """The settings know the kinds of the table and no other."""
    assert {*KIND_FOLDERS, "loader"} == set(ENTRIES)


@pytest.mark.parametrize(
    ("given", "loader", "folder"),
    [
        pytest.param("ckpt_name", "", "checkpoints", id="usual"),
        pytest.param("clip_name2", "", "text_encoders", id="numbered"),
        pytest.param("clip_name", "CLIPVisionLoader", "clip_vision", id="of-the-class"),
        pytest.param("model_name", "LatentUpscaleModelLoader", "latent_upscale_models", id="general-name"),
        pytest.param("model_name", "", None, id="too-general"),
        pytest.param("name", "SomePluginLoader", None, id="too-general-in-a-plugin"),
        pytest.param("unet_name", "SomePluginLoader", "diffusion_models", id="plugin"),
        pytest.param("weight_dtype", "UNETLoader", None, id="no-file"),
        pytest.param("", "", None, id="empty"),
    ],
)
def test_folder_of(given: str, loader: str, folder: str | None) -> None:
    """The class decides; of an unknown class the input's name."""
    assert folder == folder_of(given, loader)


def test_endings() -> None:
    """All of them are in lower case, with their dot."""
    assert all(ending == ending.lower() and ending[0] == "." for ending in MODEL_FILES)


def test_gateway() -> None:
    """The gateway reads the inputs that short forms have, and no other."""
    source = GATEWAY.read_text(encoding="utf-8")
    models = source[source.index("function models(") : source.index("async function ask(")]

    assert {name for one in SHORT for name in one.files} == set(re.findall(r"'(\w+_name\d*)'", models))


def test_window_lists() -> None:
    """ComfyUI's window goes by the same types and endings."""
    assert sorted(MODEL_TYPES) == sorted(texts("MODEL_TYPES", WINDOW))
    assert list(MODEL_ENDINGS) == texts("MODEL_ENDINGS", WINDOW)


@pytest.mark.parametrize(("inputs", "outputs", "name"), CASES)
def test_window_rule(inputs: list[str], outputs: list[str], name: str) -> None:
    """What is a loader in ComfyUI's window is one for the server, and the other way round."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed (Debian: apt-get install nodejs)")
    spec = NodeSpec(name, tuple(NodeInput(kind.lower(), kind) for kind in inputs), tuple(outputs))
    slots = {"type": name, "inputs": [{"type": t} for t in inputs], "outputs": [{"type": t} for t in outputs]}
    script = f"{WINDOW}\nprocess.stdout.write(String(isLoader({json.dumps(slots)})));"
    done = subprocess.run(
        [node, "--input-type=module", "-e", script], check=True, capture_output=True, text=True, timeout=60
    )

    assert str(is_loader(spec)).lower() == done.stdout


@pytest.mark.parametrize(
    ("loader", "inputs", "files"),
    [
        pytest.param("VAELoader", {"vae_name": "taesd"}, ["taesd"], id="core-without-ending"),
        pytest.param(
            "CLIPLoader", {"clip_name": "t5.sft", "type": "sd3", "device": "default"}, ["t5.sft"], id="core"
        ),
        pytest.param(
            "Efficient Loader",
            {
                "ckpt_name": "SDXL\\x.safetensors",
                "vae_name": "Baked VAE",
                "lora_name": "None",
                "positive": "a photo by J. Doe",
            },
            ["SDXL\\x.safetensors"],
            id="prompt-text",
        ),
        pytest.param(
            "Efficient Loader",
            {"ckpt_name": "a.CKPT", "positive": "masterpiece\nlike x.safetensors", "clip_skip": -1},
            ["a.CKPT"],
            id="prompt-text-with-a-file",
        ),
        pytest.param("UnetLoaderGGUF", {"unet_name": "flux/q4.gguf"}, ["flux/q4.gguf"], id="gguf"),
        pytest.param("AnyLoader", {"text": "v1.5"}, [], id="no-file"),
    ],
)
def test_named_files(loader: str, inputs: dict[str, Any], files: list[str]) -> None:
    """A model is called after its files, and never after a prompt's text or a choice such as None."""
    assert files == named_files(loader, inputs)
