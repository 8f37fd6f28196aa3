"""What the whole server does when a model, or the settings file, is bad.

The four policies and every way a file can be broken.
"""

from __future__ import annotations

import os

import pytest

from comfy_preload.stages.shutdown import TERMINATION_LOG
from tests.server.conftest import Comfy
from tests.support import prompts
from tests.support.comfy import ComfyServer
from tests.support.readings import CUSTOM_NODES, every_body, hits, own_lines, rows

GOOD_AND_BAD = """
on_error: {policy}
models:
  - unet: tiny.safetensors
  - vae: nowhere.safetensors
    name: bad
    required: {required}
"""
UNET = prompts.load("UNETLoader", unet_name="tiny.safetensors", weight_dtype="default")


DEGRADED = {
    "optional": ("unready", "false"),
    "serve": ("serve", "true"),
    "optional under exit": ("exit", "false"),
}
EXITS = {
    "startup": (GOOD_AND_BAD.format(policy="exit", required="true"), "nowhere.safetensors is in none of"),
    "background": (
        "when: background\n" + GOOD_AND_BAD.format(policy="exit", required="true"),
        "nowhere.safetensors is in none of",
    ),
    "timeout": (
        "on_error: exit\ntimeout: 1\nmodels: [{loader: TestGateLoader, inputs: {gate: never}, name: bad}]",
        "bad: not loaded within the 1 s",
    ),
}


@pytest.fixture(scope="module")
def degraded(module_comfy: Comfy) -> dict[str, ComfyServer]:
    """All at once: a start keeps one core busy."""
    texts = {
        name: GOOD_AND_BAD.format(policy=policy, required=required)
        for name, (policy, required) in DEGRADED.items()
    }
    return {name: module_comfy(preload=text, wait=False) for name, text in texts.items()}


@pytest.fixture(scope="module")
def exits(module_comfy: Comfy) -> dict[str, ComfyServer]:
    """All at once, as above."""
    nodes = {"loaders": CUSTOM_NODES / "loaders"}
    return {
        name: module_comfy(preload=text, custom_nodes=nodes, wait=False) for name, (text, _) in EXITS.items()
    }


@pytest.mark.parametrize("name", DEGRADED)
def test_degraded(degraded: dict[str, ComfyServer], name: str) -> None:
    """An optional model that failed, or any under `serve`.

    200, `degraded`, the failure reported, the others loaded.
    """
    server = degraded[name]
    server.wait_listening()
    ready = server.get("/ready?verbose")

    assert (200, "degraded") == (ready.status, ready.json["status"])
    assert "file_missing" == ready.json["failing"]["bad"]["code"]
    assert ["resident", "failed"] == [row["state"] for row in ready.json["models"]["items"]]
    assert (200, 503) == (server.get("/ready/tiny").status, server.get("/ready/bad").status)
    server.sink(UNET)
    assert 1 == hits(server)["tiny"]
    server.stop()


@pytest.mark.parametrize("name", EXITS)
def test_exit(exits: dict[str, ComfyServer], name: str) -> None:
    """`on_error: exit` ends the process with status 70, and the last line of ours says why."""
    server, reason = exits[name], EXITS[name][1]

    assert 70 == server.wait_exit(60)
    last = own_lines(server)[-1]
    assert "on_error: exit; exiting with status 70" in last
    assert reason in last


@pytest.mark.skipif(
    not os.access("/dev", os.W_OK) or TERMINATION_LOG.exists(), reason="may not make /dev/termination-log"
)
def test_reason_for_kubernetes(comfy: Comfy) -> None:
    """Where there is a termination log the reason stands in it: `kubectl describe pod` shows it."""
    TERMINATION_LOG.touch()
    try:
        server = comfy(preload="on_error: exit\nmodels: [{vae: nowhere.safetensors}]", wait=False)
        assert 70 == server.wait_exit(60)
        assert "nowhere: preload.yaml:2: nowhere.safetensors is in none of" in TERMINATION_LOG.read_text(
            encoding="utf-8"
        )
    finally:
        TERMINATION_LOG.unlink()


def test_broken_settings(comfy: Comfy) -> None:
    """The server starts and works; /ready is 503 and reports what is wrong with the file, and where."""
    server = comfy(preload="models:\n  - unet: tiny.safetensors\n\t- vae: x")
    ready = server.get("/ready")
    error = ready.json["failing"]["preload.yaml"]

    assert (503, "failed") == (ready.status, ready.json["status"])
    assert ("yaml_syntax", 3) == (error["code"], error["line"])
    assert "not valid YAML" in error["message"]
    assert "never tabs" in error["hint"]
    assert server.sink(UNET)["any"]["weights"]
    assert str(server.base) not in every_body(server)
    assert any("[yaml_syntax]" in line for line in own_lines(server))


def test_one_bad_key(comfy: Comfy) -> None:
    """A key that is not known, one that stands twice and one of a wrong type.

    The models are loaded all the same, but 503.
    """
    settings = "tiemout: 5\nwhen: startup\nwhen: off\non_error: 7\nmodels:\n  - unet: tiny.safetensors\n"
    server = comfy(preload=settings)
    ready = server.get("/ready")
    error = ready.json["failing"]["preload.yaml"]

    assert (503, "failed") == (ready.status, ready.json["status"])
    assert all(words in error["message"] for words in ("'tiemout'", "duplicate key 'when'", "on_error is 7"))
    assert {"total": 1, "ready": 1, "failed": 0, "not_preloaded": 0} == ready.json["models"]
    assert "resident" == rows(server)["tiny"]["state"]
    assert {"[unknown_key]", "[duplicate_key]", "[wrong_value]"} == {
        word
        for entry in own_lines(server)
        for word in ("[unknown_key]", "[duplicate_key]", "[wrong_value]")
        if word in entry
    }
    server.sink(UNET)
    assert 1 == hits(server)["tiny"]


def test_settings_file_missing(comfy: Comfy) -> None:
    """PRELOAD_CONFIG that names no file is an error, not an empty list; its path is in no answer."""
    server = comfy(env={"PRELOAD_CONFIG": "/nowhere/at all/preload.yaml"})
    ready = server.get("/ready")

    assert (503, "yaml_unreadable") == (ready.status, ready.json["failing"]["preload.yaml"]["code"])
    assert "PRELOAD_CONFIG" in ready.json["failing"]["preload.yaml"]["hint"]
    assert "/nowhere" not in every_body(server)
