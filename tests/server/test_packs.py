"""Loader nodes as widely used packs write them.

Each is preloaded, and handed out to prompts, like one of ComfyUI's own.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.server.conftest import Comfy
from tests.support import prompts
from tests.support.comfy import ComfyServer
from tests.support.readings import CUSTOM_NODES, hits, misses, rows

PRELOAD = """
models:
  - {loader: TestFactoryOne, inputs: {file: tiny.safetensors}, name: one}
  - {loader: TestFactoryTwo, inputs: {file: tiny.safetensors}, name: two}
  - loader: TestGraphLoader
    inputs: {file: tiny.safetensors, text: a dog, vae_name: Baked VAE, lora_name: None}
    name: graph
  - {loader: TestHashLoader, inputs: {path: content.txt}, name: hash}
  - {loader: TestHashModel, inputs: {path: content.txt}, name: hash-model}
  - {loader: TestV3HashLoader, inputs: {path: content.txt}, name: v3-hash}
  - {loader: TestRandomLoader, inputs: {file: tiny.safetensors}, name: random, required: false}
"""
GRAPH: dict[str, Any] = {
    "file": "tiny.safetensors",
    "text": "a dog",
    "vae_name": "Baked VAE",
    "lora_name": "None",
}


@pytest.fixture(scope="module")
def server(module_comfy: Comfy) -> ComfyServer:
    server = module_comfy(preload=PRELOAD, custom_nodes={"pack": CUSTOM_NODES / "pack"}, wait=False)
    (server.base / "input" / "content.txt").write_text("first", encoding="utf-8")
    server.wait_ready()
    return server


def test_all_are_loaded(server: ComfyServer) -> None:
    """All but the one that asks to be run in every prompt, which is said of it."""
    found = rows(server)

    assert {"resident"} == {row["state"] for name, row in found.items() if name != "random"}
    assert "loader_changes" == found["random"]["error"]["code"]
    assert 1 == server.log.count("factory 1 built")
    assert 1 == server.log.count("factory 2 built")


@pytest.mark.parametrize(("name", "loader"), [("one", "TestFactoryOne"), ("two", "TestFactoryTwo")])
def test_classes_of_one_factory(server: ComfyServer, name: str, loader: str) -> None:
    """Two classes of one qualified name, function and inputs are two loaders; none gets the other's model."""
    server.run(prompts.unrelated())
    before = hits(server)

    first = server.sink(prompts.load(loader, file="tiny.safetensors"))["any"]["id"]
    server.run(prompts.unrelated())
    second = server.sink(prompts.load(loader, file="tiny.safetensors"))["any"]["id"]
    other = {"one": "TestFactoryTwo", "two": "TestFactoryOne"}[name]

    assert first == second
    assert first != server.sink(prompts.load(other, file="tiny.safetensors"))["any"]["id"]
    assert hits(server)[name] == before[name] + 2


def test_hidden_inputs(server: ComfyServer) -> None:
    """The executor's.

    The node's id, a prompt that has it, no workflow here; what it does not know keeps the default.
    """
    assert "TestGraphLoader ran as node 1 of 1, saved as None, 25 ('none',)" in server.log


def test_ui_and_result(server: ComfyServer) -> None:
    """`{"ui": …, "result": …}` is kept and handed out whole.

    Both outputs arrive, and what is to be shown is shown.
    """
    before = server.log.count("TestGraphLoader ran")
    prompt = prompts.load("TestGraphLoader", **GRAPH)
    prompt["sink"]["inputs"]["model"] = ["loader", 1]

    outputs = server.run(prompt)["outputs"]

    assert {"any", "model"} == {row["input"] for row in outputs["sink"]["objects"]}
    assert ["Baked VAE", "None"] == outputs["loader"]["text"]
    assert before == server.log.count("TestGraphLoader ran")


def test_one_copy_of_what_a_pack_keeps_itself(server: ComfyServer) -> None:
    """A pack that keeps models by node id drops the preloaded one in a prompt with another node.

    What it loads then takes the place of that one; other texts load nothing again.
    """

    def alive() -> int:
        prompt = {"1": {"class_type": "TestAlive", "inputs": {"loader": "TestGraphLoader"}}}
        (found,) = server.run(prompt)["outputs"]["1"]["alive"]
        return int(found)

    assert 1 == alive()
    for text in ("a cat", "a cow", "a cat"):
        server.run(prompts.load("TestGraphLoader", **{**GRAPH, "text": text}))
        assert 1 == alive()
    before = hits(server)["graph"]

    server.run(prompts.load("TestGraphLoader", **{**GRAPH, "text": "a cat"}))

    assert before + 1 == hits(server)["graph"]
    assert "resident" == rows(server)["graph"]["state"]


def test_preloaded_model_asks_its_class(server: ComfyServer) -> None:
    """The node that hands a model out by its name runs again when the model's class would."""
    prompt = {
        "model": {"class_type": "ComfyPreload_Model", "inputs": {"model": "hash-model"}},
        "sink": {"class_type": "Sink", "inputs": {"model": ["model", 0]}},
    }
    file = server.base / "input" / "content.txt"
    said = f"TestHashLoader built a part of {file.read_text(encoding='utf-8')}"
    first = server.sink(prompt)["model"]["id"]
    assert first == server.sink(prompt)["model"]["id"]
    assert 2 == server.log.count(said), "one for each of the two entries"

    _rewrite(file, "third")
    server.run(prompt)
    server.run(prompt)

    assert 1 == server.log.count("TestHashLoader built a part of third")


def test_value_for_a_hidden_input(server: ComfyServer) -> None:
    """A program may send one of a kind that the executor does not fill in.

    Then it is an argument like any other.
    """
    before = misses(server).get("TestGraphLoader", 0)

    server.run(prompts.load("TestGraphLoader", **GRAPH, length=99))

    assert before + 1 == misses(server)["TestGraphLoader"]


@pytest.mark.parametrize(("name", "loader"), [("hash", "TestHashLoader"), ("v3-hash", "TestV3HashLoader")])
def test_answer_of_the_class_counts(server: ComfyServer, name: str, loader: str) -> None:
    """What IS_CHANGED and fingerprint_inputs answer is part of the question.

    Another answer loads again, and is kept.
    """
    file = server.base / "input" / "content.txt"
    first = server.sink(prompts.load(loader, path="content.txt"))["any"]["id"]
    server.run(prompts.unrelated())
    assert first == server.sink(prompts.load(loader, path="content.txt"))["any"]["id"]

    missed = misses(server).get(loader, 0)
    _rewrite(file, "other" if file.read_text(encoding="utf-8") == "first" else "first")
    second = server.sink(prompts.load(loader, path="content.txt"))["any"]["id"]
    before = hits(server)[name]
    server.run(prompts.unrelated())

    assert missed + 1 == misses(server)[loader], "ids of freed objects are used again: count what was loaded"
    assert second == server.sink(prompts.load(loader, path="content.txt"))["any"]["id"]
    assert before + 1 == hits(server)[name]


def _rewrite(path: Path, text: str) -> None:
    """Same size, same modification time."""
    before = path.stat()
    path.write_text(text, encoding="utf-8")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_loader_that_asks_to_be_run(server: ComfyServer) -> None:
    """Runs in every prompt, as without the plugin."""
    before = server.log.count("TestRandomLoader built")
    seen = [server.sink(prompts.load("TestRandomLoader", file="tiny.safetensors"))["any"] for _ in range(2)]

    assert 2 == len(seen)
    assert before + 2 == server.log.count("TestRandomLoader built")
