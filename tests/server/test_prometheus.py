"""A real Prometheus scrapes a real ComfyUI as deploy/monitoring says, and knows what /preload says."""

from __future__ import annotations

import subprocess
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.server.conftest import Comfy
from tests.support import prompts
from tests.support.comfy import ComfyServer, free_port
from tests.support.prometheus import program
from tests.support.readings import rows
from tests.support.reply import ask

MONITORING = Path(__file__).resolve().parents[2] / "deploy" / "monitoring"
PRELOAD = "models: [{unet: tiny.safetensors}, {vae: missing.safetensors, required: false}]\n"


@pytest.fixture(scope="module")
def server(module_comfy: Comfy) -> ComfyServer:
    started = module_comfy(preload=PRELOAD)
    started.wait_ready()
    return started


@pytest.fixture(scope="module")
def prometheus(server: ComfyServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Scrape this ComfyUI every half second; the URL.

    The configuration is ours but for where and how often.
    """
    folder = tmp_path_factory.mktemp("prometheus")
    config: dict[str, Any] = yaml.safe_load((MONITORING / "prometheus.yml").read_text(encoding="utf-8"))
    (job,) = config["scrape_configs"]
    job |= {
        "scrape_interval": "500ms",
        "scrape_timeout": "500ms",
        "static_configs": [{"targets": [f"127.0.0.1:{server.port}"]}],
    }
    config["global"] = {"evaluation_interval": "500ms"}
    config["rule_files"] = [str(MONITORING / name) for name in config["rule_files"]]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    port = free_port()
    command = [
        *(
            program("prometheus"),
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
        ),
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


def value(prometheus: str, expression: str) -> float | None:
    """What Prometheus answers, None while it has nothing to answer."""
    try:
        reply = ask(f"{prometheus}/api/v1/query?{urllib.parse.urlencode({'query': expression})}")
    except OSError:  # it does not listen yet
        return None
    found = reply.json["data"]["result"] if reply.json else []
    return float(found[0]["value"][1]) if found else None


def test_scraped(server: ComfyServer, prometheus: str) -> None:
    """Every scrape works, and the figures are those of /preload."""
    server.wait(lambda: value(prometheus, "up") == 1, "scraped", deadline=60)

    assert 1 == value(prometheus, "comfyui_preload_ready")
    assert 1 == value(prometheus, 'comfyui_preload_phase{phase="degraded"}')
    assert 1 == value(prometheus, 'comfyui_preload_errors{code="file_missing"}')
    resident = rows(server)["tiny"]["bytes_on_device"]
    assert resident == value(prometheus, 'comfyui_preload_model_resident_bytes{model="tiny"}')


def test_counters_move(server: ComfyServer, prometheus: str) -> None:
    """A prompt is seen as a hit."""
    name = 'comfyui_preload_hits_total{model="tiny"}'
    before = rows(server)["tiny"]["hits"]
    server.sink(prompts.load("UNETLoader", unet_name="tiny.safetensors", weight_dtype="default"))

    server.wait(lambda: value(prometheus, name) == before + 1, "counted", deadline=30)


def test_rules_are_loaded(server: ComfyServer, prometheus: str) -> None:
    """Prometheus evaluates our rules: the model that failed becomes an alert."""
    name = 'ALERTS{alertname="ComfyUIModelFailed", model="missing"}'

    server.wait(lambda: value(prometheus, name) == 1, "reported", deadline=30)
