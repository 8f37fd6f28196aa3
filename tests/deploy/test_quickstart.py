"""The `curl` commands of the quickstart, run as they stand for the ComfyUI of its values file."""

from __future__ import annotations

import json
import re
import subprocess

import pytest

from tests.deploy.manifests import container, example, settings
from tests.deploy.tools import ROOT, program
from tests.support import models as tiny
from tests.support.comfy import ComfyServer, free_port
from tools.host import comfyui_path, comfyui_python

MANUAL = ROOT / "docs" / "kubernetes.md"


def commands() -> list[str]:
    """Those of the quickstart on a laptop."""
    text = MANUAL.read_text(encoding="utf-8").partition("## Quickstart on a laptop")[2].partition("\n## ")[0]
    return re.findall(r"^curl .*$", text, re.MULTILINE)


@pytest.fixture(scope="module")
def ports() -> dict[str, str]:
    return {"8188": str(free_port()), "9188": str(free_port())}


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory, ports: dict[str, str]) -> list[str]:
    """What each command prints, with the ports of this test in place of those that are forwarded."""
    base = tmp_path_factory.mktemp("quickstart")
    rendered = example("cpu")
    (model,) = re.findall(r"checkpoint: (\S+)", settings(rendered))
    tiny.tiny_checkpoint(base / "models" / "checkpoints" / model)
    preload = settings(rendered).replace("9188", ports["9188"])
    server = ComfyServer(
        base / "base",
        host=comfyui_path(),
        python=comfyui_python(),
        preload=preload,
        models=base / "models",
        port=int(ports["8188"]),
        cpu=False,
        args=container(rendered)["args"],
    )
    with server:
        server.wait_ready()
        return [ran(command, ports) for command in commands()]


def ran(command: str, ports: dict[str, str]) -> str:
    assert program("curl")
    for port, ours in ports.items():
        command = command.replace(f"localhost:{port}", f"127.0.0.1:{ours}")
    assert "localhost" not in command
    done = subprocess.run(
        ["sh", "-ec", command], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout


def test_ready(said: list[str]) -> None:
    """The model of the values file is loaded, and that is all."""
    (row,) = json.loads(said[0])["models"]["items"]

    assert "ready" == json.loads(said[0])["status"]
    assert "v1-5-pruned-emaonly-fp16" == row["name"]


def test_first_picture(said: list[str]) -> None:
    """ComfyUI takes the graph: every node, link and file exists. To run it needs the real weights."""
    answer = json.loads(said[1])

    assert {} == answer["node_errors"]
    assert answer["prompt_id"]


def test_all_commands(said: list[str]) -> None:
    """There are three, and none fails."""
    paths = [re.findall(r"localhost:\d+([a-z/?]+)", command) for command in commands()]

    assert [["/ready?verbose"], ["/prompt"], ["/history"]] == paths
    assert said[2].startswith("{")
