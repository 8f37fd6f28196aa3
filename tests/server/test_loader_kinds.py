"""Every kind of loader node is preloaded and handed out, whatever pack has it, whenever it is imported."""

from __future__ import annotations

import shutil
from typing import Any

import pytest

from tests.server.conftest import Comfy
from tests.support import prompts
from tests.support.base_directory import PLUGIN
from tests.support.comfy import ComfyServer
from tests.support.readings import CUSTOM_NODES, hits, misses, rows

PRELOAD = """
models:
  - {loader: TestAsyncLoader, inputs: {file: tiny.safetensors}, name: async}
  - {loader: TestHiddenLoader, inputs: {number: 5}, name: hidden}
  - {loader: TestListLoader, inputs: {number: 7}, name: list}
  - {loader: TestDefaultsLoader, name: defaults}
  - {loader: TestProgressLoader, name: progress}
  - {loader: TestV3Loader, inputs: {file: tiny.safetensors}, name: v3}
  - {loader: TestV3AsyncLoader, inputs: {file: tiny.safetensors, number: 4}, name: v3-async}
  - {loader: TestV3HeirLoader, inputs: {file: tiny.safetensors, number: 9}, name: v3-heir}
  - {loader: TestDefaultsLoader, inputs: {mode: slow, size: 0.5}, name: twice}
"""
ALL_DEFAULTS = {"mode": "slow", "size": 0.5, "text": "as it comes", "strict": True}


@pytest.fixture(scope="module")
def server(module_comfy: Comfy, tmp_path_factory: pytest.TempPathFactory) -> ComfyServer:
    """In folders that ComfyUI reads before and after the plugin's: within one, no order is promised."""
    base = tmp_path_factory.mktemp("strangers")
    for place, name in (("first", "loaders"), ("last", "loaders_v3")):
        shutil.copytree(CUSTOM_NODES / name, base / place / name)
    paths = base / "paths.yaml"
    paths.write_text(
        f"first:\n  is_default: true\n  custom_nodes: {base / 'first'}\nlast:\n  custom_nodes: "
        f"{base / 'last'}\n",
        encoding="utf-8",
    )
    names = [PLUGIN, "sink", "loaders", "loaders_v3"]
    args = ["--extra-model-paths-config", str(paths), "--whitelist-custom-nodes", *names]
    server = module_comfy(preload=PRELOAD, args=args)
    server.wait_ready()
    return server


def test_import_order(server: ComfyServer) -> None:
    """Loaders of a plugin that is imported before this one are found, and those of one imported after it."""
    assert "loaders: imported before the plugin" in server.log
    assert "loaders_v3: imported after the plugin" in server.log
    assert {"resident"} == {row["state"] for row in rows(server).values()}


@pytest.mark.parametrize(
    ("name", "loader", "inputs"),
    [
        pytest.param("async", "TestAsyncLoader", {"file": "tiny.safetensors"}, id="async"),
        pytest.param("hidden", "TestHiddenLoader", {"number": 5}, id="hidden-inputs"),
        pytest.param("list", "TestListLoader", {"number": 7}, id="inputs-as-lists"),
        pytest.param("defaults", "TestDefaultsLoader", ALL_DEFAULTS, id="defaults"),
        pytest.param(
            "defaults",
            "TestDefaultsLoader",
            {**ALL_DEFAULTS, "device": "default"},
            id="defaults-with-optional",
        ),
        pytest.param("progress", "TestProgressLoader", {}, id="progress-bar"),
        pytest.param("v3", "TestV3Loader", {"file": "tiny.safetensors", "number": 3}, id="v3"),
        pytest.param(
            "v3", "TestV3Loader", {"file": "tiny.safetensors", "number": 3, "note": ""}, id="v3-with-optional"
        ),
        pytest.param(
            "v3-async", "TestV3AsyncLoader", {"file": "tiny.safetensors", "number": 4}, id="v3-async"
        ),
        pytest.param(
            "v3-heir", "TestV3HeirLoader", {"file": "tiny.safetensors", "number": 9}, id="v3-inherited"
        ),
    ],
)
def test_is_built_once(server: ComfyServer, name: str, loader: str, inputs: dict[str, Any]) -> None:
    """Before the port opened, and never again.

    Two prompts with another workflow between get the same object.
    """
    before, built = hits(server)[name], server.log.count(f"{loader} built")
    prompt = prompts.load(loader, **inputs)

    first = server.sink(prompt)["any"]["id"]
    server.run(prompts.unrelated())
    second = server.sink(prompt)["any"]["id"]

    assert first == second
    assert before < hits(server)[name]
    assert built == server.log.count(f"{loader} built")


@pytest.mark.parametrize(
    ("name", "loader", "heir", "inputs"),
    [
        pytest.param("hidden", "TestHiddenLoader", "TestHeirLoader", {"number": 5}, id="v1"),
        pytest.param(
            "v3",
            "TestV3Loader",
            "TestV3HeirLoader",
            {"file": "tiny.safetensors", "number": 3},
            id="v3-watched-too",
        ),
    ],
)
def test_class_that_inherits_is_another_node(
    server: ComfyServer, name: str, loader: str, heir: str, inputs: dict[str, Any]
) -> None:
    """What was preloaded for a class is not handed out for one that inherits its function."""
    own = server.sink(prompts.load(loader, **inputs))["any"]["id"]
    before = hits(server)[name]

    assert own != server.sink(prompts.load(heir, **inputs))["any"]["id"]
    assert before == hits(server)[name]


def test_same_call_twice_is_one_model(server: ComfyServer) -> None:
    """An entry that comes to the same call as another is left out, and the log says which."""
    assert "twice" not in rows(server)
    assert "twice is the same call as defaults and is ignored" in server.log


def test_hidden_inputs_of_a_job(server: ComfyServer) -> None:
    """A loader that wants to know its node gets one, as in a graph."""
    assert "TestHiddenLoader built a brick of 5 in node 1" in server.log


def test_another_value_is_another_model(server: ComfyServer) -> None:
    """An input that differs from the plan's, in type too, is not confused with it."""
    planned = server.sink(prompts.load("TestHiddenLoader", number=5))["any"]["id"]
    other = server.sink(prompts.load("TestHiddenLoader", number=6))["any"]["id"]

    assert planned != other
    assert 1 == misses(server)["TestHiddenLoader"]
