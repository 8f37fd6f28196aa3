"""With nothing to preload the plugin is not there.

ComfyUI is as it was, but for the routes, and /ready is 200.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.server.conftest import Comfy
from tests.support import prompts
from tests.support.comfy import ComfyServer, PromptFailedError
from tests.support.readings import CUSTOM_NODES, every_body

pytestmark = pytest.mark.cold

WINDOW = {"window": CUSTOM_NODES / "window"}
SAME_ORDER = {"PYTHONHASHSEED": "0"}
"""ComfyUI 0.33.0 lists the tiny VAEs in the order of a set."""
NOTHING = {
    "shipped": None,
    "off": "when: off\nmodels: [{unet: tiny.safetensors}, {vae: missing.safetensors}]\n",
}


def _facts(server: ComfyServer) -> dict[str, Any]:
    return {"window": server.get("/window").json, "nodes": server.get("/object_info").json}


@pytest.fixture(scope="module")
def without(module_comfy: Comfy) -> dict[str, Any]:
    """What ComfyUI looks like without the plugin."""
    server = module_comfy(plugin=False, custom_nodes=WINDOW, env=SAME_ORDER)
    facts = _facts(server)
    server.stop()
    return facts


@pytest.fixture(scope="module", params=NOTHING.values(), ids=list(NOTHING))
def server(request: pytest.FixtureRequest, module_comfy: Comfy) -> ComfyServer:
    return module_comfy(preload=request.param, custom_nodes=WINDOW, env=SAME_ORDER)


def test_is_ready_at_once(server: ComfyServer) -> None:
    """The first answer is 200, with no models."""
    ready = server.get("/ready")

    assert (200, "ready") == (ready.status, ready.json["status"])
    assert {"total": 0, "ready": 0, "failed": 0, "not_preloaded": 0} == ready.json["models"]
    assert {} == ready.json["failing"]
    assert str(server.base) not in every_body(server)


def test_nothing_is_touched(server: ComfyServer, without: dict[str, Any]) -> None:
    """No node class has another function, and every node is described as before.

    Only our own nodes are new.
    """
    assert {"touched": [], "wrapped": without["window"]["wrapped"]} == server.get("/window").json
    nodes = server.get("/object_info").json
    assert {"ComfyPreload_Model", "ComfyPreload_Status"} == nodes.keys() - without["nodes"].keys()
    assert without["nodes"] == {name: node for name, node in nodes.items() if name in without["nodes"]}


def test_comfyui_works_as_ever(server: ComfyServer) -> None:
    """A prompt runs, and the plugin's internal node is unknown."""
    assert server.sink(prompts.load("UNETLoader", unet_name="tiny.safetensors", weight_dtype="default"))[
        "any"
    ]["weights"]
    with pytest.raises(PromptFailedError, match=r"refused with 400"):
        server.run({"1": {"class_type": "ComfyPreload_Job", "inputs": {"job": "x"}}})
