"""Owns loader nodes as widely used packs write them.

Made by a factory, with a cache of their own, asking about the graph.

Runs inside ComfyUI. Each says in the log what it built, so a test can count.
"""

from __future__ import annotations

import gc
import hashlib
import logging
import weakref
from pathlib import Path
from typing import Any

import folder_paths
from comfy_api.latest import io

log = logging.getLogger("pack")
Inputs = dict[str, dict[str, Any]]

_alive: weakref.WeakSet[Part] = weakref.WeakSet()

_cache: dict[str, tuple[Part, list[str]]] = {}
"""File -> what was read from it, and the ids of the nodes that use it."""


class Part:
    """Something loaded."""

    def __init__(self, loader: str, content: object) -> None:
        self.content = content
        self.loader = loader
        _alive.add(self)
        log.info("%s built a part of %s", loader, content)


def _vae(name: str) -> Path:
    return Path(folder_paths.get_full_path_or_raise("vae", name))


def _made(number: int) -> type[Any]:
    """Return a class.

    All of them have the same qualified name, function and inputs (as ComfyUI-MultiGPU's have).
    """

    class Override:
        CATEGORY = "tests"
        FUNCTION = "override"
        RETURN_TYPES = ("PART",)

        @classmethod
        def INPUT_TYPES(cls) -> Inputs:
            return {"required": {"file": (folder_paths.get_filename_list("vae"),)}}

        def override(self, *args: Any, device: str | None = None, **kwargs: Any) -> tuple[Part]:
            del args, device
            return (Part(f"factory {number}", kwargs["file"]),)

    return Override


class TestGraphLoader:
    """Looks its own node up in the prompt, keeps what it read while the node is there, shows something.

    As Efficient Loader (a cache by node id, cleaned with each prompt) and `easy a1111Loader`
    (`prompt[my_unique_id]`, `{"ui": …, "result": …}`, hidden inputs that are lists or of a kind of their own)
    do.
    """

    CATEGORY = "tests"
    FUNCTION = "load"
    RETURN_TYPES = ("PART", "STRING")

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        hidden = {
            "prompt": "PROMPT",
            "my_unique_id": "UNIQUE_ID",
            "extra_pnginfo": "EXTRA_PNGINFO",
            "rows": (["a", "b"],),
            "length": "VIDEO_LENGTH",
        }
        required = {
            "file": (folder_paths.get_filename_list("vae"),),
            "text": ("STRING", {"multiline": True, "default": "a photo by J. Doe, masterpiece"}),
            "vae_name": (["Baked VAE", "other.safetensors"],),
            "lora_name": (["None", "style.safetensors"],),
        }
        return {"required": required, "hidden": hidden}

    def load(
        self,
        *,
        file: str,
        text: str,
        vae_name: str,
        lora_name: str,
        prompt: dict[str, Any],
        my_unique_id: str,
        extra_pnginfo: dict[str, Any] | None,
        length: int = 25,
        rows: tuple[str, ...] = ("none",),
    ) -> dict[str, Any]:
        node = prompt[my_unique_id]
        if node["inputs"]["text"] != text:
            raise ValueError("this is not the node that runs")
        for name, (_, users) in list(_cache.items()):
            users[:] = [user for user in users if user in prompt]
            if not users:
                del _cache[name]
        if file not in _cache:
            _cache[file] = (Part("TestGraphLoader", file), [])
        part, users = _cache[file]
        if my_unique_id not in users:
            users.append(my_unique_id)
        saved = (extra_pnginfo or {}).get("workflow", {}).get("id")
        log.info(
            "TestGraphLoader ran as node %s of %d, saved as %s, %s %s",
            my_unique_id,
            len(prompt),
            saved,
            length,
            rows,
        )
        return {"ui": {"text": [vae_name, lora_name]}, "result": (part, text)}


class TestHashLoader:
    """Declares IS_CHANGED with the content of its file, as ComfyUI's LoadImage does."""

    CATEGORY = "tests"
    FUNCTION = "load"
    RETURN_TYPES = ("PART",)

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {
            "required": {"path": ("STRING", {})},
            "hidden": {"prompt": "PROMPT", "unique_id": "UNIQUE_ID"},
        }

    @classmethod
    def IS_CHANGED(cls, path: str, prompt: dict[str, Any], unique_id: str) -> str:
        del unique_id
        if prompt:
            raise ValueError("the executor gives no prompt here")
        return hashlib.sha256((Path(folder_paths.get_input_directory()) / path).read_bytes()).hexdigest()

    def load(self, path: str, prompt: dict[str, Any], unique_id: str) -> tuple[Part]:
        del prompt, unique_id
        content = (Path(folder_paths.get_input_directory()) / path).read_text(encoding="utf-8")
        return (Part("TestHashLoader", content),)


class TestHashModel(TestHashLoader):
    """The same for a model: what it answers counts for the node that hands it out by its name too."""

    RETURN_TYPES = ("MODEL",)


class TestAlive:
    """Reports how many parts of a loader are in memory."""

    CATEGORY = "tests"
    FUNCTION = "count"
    OUTPUT_NODE = True
    RETURN_TYPES = ()

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"loader": ("STRING", {})}}

    @classmethod
    def IS_CHANGED(cls, **_inputs: Any) -> float:
        return float("nan")

    def count(self, loader: str) -> dict[str, Any]:
        gc.collect()
        return {"ui": {"alive": [sum(part.loader == loader for part in _alive)]}}


class TestRandomLoader:
    """Asks to be run in every prompt."""

    CATEGORY = "tests"
    FUNCTION = "load"
    RETURN_TYPES = ("PART",)

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"file": (folder_paths.get_filename_list("vae"),)}}

    @classmethod
    def IS_CHANGED(cls, **_inputs: Any) -> float:
        return float("nan")

    def load(self, file: str) -> tuple[Part]:
        return (Part("TestRandomLoader", _vae(file).name),)


class TestV3HashLoader(io.ComfyNode):
    """The same question in V3 nodes, and hidden inputs as they have them."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TestV3HashLoader",
            inputs=[io.String.Input("path")],
            outputs=[io.Custom("PART").Output()],
            hidden=[io.Hidden.unique_id, io.Hidden.prompt],
        )

    @classmethod
    def fingerprint_inputs(cls, path: str) -> str:
        return (Path(folder_paths.get_input_directory()) / path).read_text(encoding="utf-8")

    @classmethod
    def execute(cls, path: str) -> io.NodeOutput:
        node = cls.hidden.prompt[cls.hidden.unique_id]
        return io.NodeOutput(Part("TestV3HashLoader", (node["class_type"], node["inputs"]["path"])))


NODE_CLASS_MAPPINGS: dict[str, type] = {
    "TestFactoryOne": _made(1),
    "TestFactoryTwo": _made(2),
    **{
        cls.__name__: cls
        for cls in (
            TestAlive,
            TestGraphLoader,
            TestHashLoader,
            TestHashModel,
            TestRandomLoader,
            TestV3HashLoader,
        )
    },
}
