"""As ComfyUI-Manager installs it.

The folder in custom_nodes, `pip install -r requirements.txt`, a first start.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.server.conftest import Comfy
from tests.support.base_directory import PLUGIN, ROOT
from tools.host import comfyui_python

pytestmark = pytest.mark.cold

PRELOAD = "models: [{unet: tiny.safetensors}]\n"


def test_managers_steps(comfy: Comfy, tmp_path: Path) -> None:
    """Its requirements are met without a change, and ComfyUI imports it from a folder of any name."""
    steps = [str(comfyui_python()), "-m", "pip", "install", "--dry-run", "--quiet", "--report", "-"]
    found = subprocess.run(
        [*steps, "-r", str(ROOT / "requirements.txt")], capture_output=True, text=True, check=True
    )
    wanted = {item["metadata"]["name"] for item in json.loads(found.stdout)["install"]}
    assert wanted <= {"prometheus_client"}, "nothing that comes with ComfyUI is changed"

    copy = tmp_path / "comfy-preload-renamed"
    shutil.copytree(
        ROOT, copy, ignore=shutil.ignore_patterns(".*", "__pycache__", "tests", "bench", "deploy", "docs")
    )
    started = comfy(plugin=False, custom_nodes={copy.name: copy})
    assert 200 == started.get("/ready").status
    assert "ComfyPreload_Model" in started.get("/object_info").json
    assert any("/main.js" in path and copy.name in path for path in started.get("/extensions").json)


def test_quick_test_for_ci(comfy: Comfy) -> None:
    """ComfyUI's own check of plugins: it starts, loads nothing and ends well, though a model is listed."""
    server = comfy(preload=PRELOAD, args=["--quick-test-for-ci"], wait=False)
    assert 0 == server.wait_exit()
    assert "IMPORT FAILED" not in server.log
    assert PLUGIN in server.log
    assert "loaded tiny" not in server.log
    assert "Requested to load" not in server.log


def test_every_text_is_there_in_both_languages() -> None:
    """What the panel asks for is in locales/en, and locales/zh has the same keys, placeholders included."""
    english, chinese = (_texts(ROOT / "locales" / language) for language in ("en", "zh"))
    labels = "main.comfyPreload.labels."
    moved = {
        key.replace(labels, "" if "settingsCategories" not in key else "main."): text
        for key, text in english.items()
    }
    assert moved.keys() == chinese.keys()
    for key, text in moved.items():
        assert _placeholders(text) == _placeholders(chinese[key]), key


def _texts(folder: Path) -> dict[str, str]:
    found: dict[str, str] = {}

    def walk(path: str, value: object) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                walk(f"{path}.{key}", inner)
        else:
            found[path] = str(value)

    for file in sorted(folder.glob("*.json")):
        walk(file.stem, json.loads(file.read_text(encoding="utf-8")))
    return found


def _placeholders(text: str) -> set[str]:
    return {part.split("}")[0] for part in text.split("{")[1:]}
