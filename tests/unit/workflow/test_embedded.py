"""A workflow comes in an answer of a server, a file of the editor, or an image."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from comfy_preload.core.errors import PreloadError
from comfy_preload.core.workflow.embedded import text_of
from comfy_preload.core.workflow.reader import parse
from tests.support.node_table import NodeTable, file, node, read

LOADER = node(1, "CheckpointLoaderSimple", ["a.ckpt"], outputs="MODEL CLIP VAE")
PROMPT = {"1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "a.ckpt"}}}


AROUND: dict[str, Callable[[Any], Any]] = {
    "request": lambda w: {"input": {"workflow": w, "images": [{"name": "x"}]}},
    "workflow": lambda w: {"workflow": w},
    "text": lambda w: {"prompt": json.dumps(w), "client_id": "x"},
    "only-text": json.dumps,
    "both": lambda w: {"workflow": {"nodes": []}, "output": w},
    "posted": lambda w: {"prompt": w, "extra_data": {"extra_pnginfo": {"workflow": {"nodes": []}}}},
    "history": lambda w: {"0a1b": {"prompt": [0, "0a1b", w, {}, ["1"]], "outputs": {}}},
}


@pytest.mark.parametrize("name", AROUND)
def test_wrapped(name: str) -> None:
    """The body of a request, an entry of a history: the prompt in it is found."""
    assert PROMPT == read(AROUND[name](PROMPT)).prompt


@pytest.mark.parametrize("key", ["workflow", "input", "graph"])
def test_wrapped_editor(key: str) -> None:
    """The editor's format, too."""
    assert PROMPT == read({key: file(LOADER)}).prompt


def png(texts: dict[str, str], *, how: str = "tEXt") -> bytes:
    info = PngInfo()
    for name, text in texts.items():
        if how == "comf":
            info.add(b"comf", name.encode() + b"\0" + text.encode(), after_idat=True)
        else:
            add = info.add_itxt if how == "iTXt" else info.add_text
            add(name, text, zip=how != "tEXt")
    out = io.BytesIO()
    Image.new("RGB", (8, 8)).save(out, "PNG", pnginfo=info)
    return out.getvalue()


def webp(*texts: str) -> bytes:
    image = Image.new("RGB", (8, 8))
    exif = image.getexif()
    for tag, text in zip((0x110, 0x10F, 0x10E), texts, strict=False):
        exif[tag] = text
    out = io.BytesIO()
    image.save(out, "WEBP", exif=exif)
    return out.getvalue()


TEXT = json.dumps({"1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "a.ckpt"}}})


@pytest.mark.parametrize(
    "image",
    [
        *(pytest.param(png({"prompt": TEXT}, how=how), id=how) for how in ("tEXt", "zTXt", "iTXt", "comf")),
        pytest.param(png({"workflow": json.dumps(file(LOADER))}), id="editor"),
        pytest.param(png({"workflow": '{"nodes": []}', "prompt": TEXT}), id="both"),
        pytest.param(webp(f"prompt:{TEXT}", 'workflow:{"nodes": []}'), id="webp"),
        pytest.param(webp(f"Workflow: {json.dumps(file(LOADER))}"), id="webp-editor"),
    ],
)
def test_image(image: bytes) -> None:
    """Images that ComfyUI saved hold what made them."""
    assert PROMPT == parse(text_of(io.BytesIO(image)), NodeTable()).prompt


NO_WORKFLOWS = {
    "bare": png({}),
    "parameters": png({"parameters": "a cat, Steps: 20"}),
    "text": png({"prompt": "a cat"}),
    "bare-webp": webp(),
    "other-webp": webp("x:y"),
    "cut": png({})[:40],
    "cut-webp": b"RIFF\0\0\0\0WEBPEXIF\xff\0\0\0II",
}


@pytest.mark.parametrize("name", NO_WORKFLOWS)
def test_image_without_workflow(name: str) -> None:
    """Other images are no workflow."""
    with pytest.raises(PreloadError) as caught:
        text_of(io.BytesIO(NO_WORKFLOWS[name]))

    assert "workflow_unknown_format" == caught.value.problem.code


def test_no_image() -> None:
    """Everything else is read as it is."""
    assert b"{" == text_of(io.BytesIO(b"{"))
    assert TEXT.encode() == text_of(io.BytesIO(TEXT.encode()))
