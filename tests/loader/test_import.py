"""ComfyUI imports the plugin's folder.

It always succeeds, costs next to nothing, and `/ready` is there to tell the rest.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
CHILD = ROOT / "tests" / "support" / "load_as_comfyui.py"
ROUTES = ["/ready", "/ready/{name:[^/]+}", "/livez", "/preload", "/preload/metrics", "/preload/sleep"]
"""Some of them; all are in tests/http."""
LEFT_OUT = shutil.ignore_patterns(".*", "__pycache__", "tests", "bench", "docs", "tools")

Load = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The plugin as it is installed, in a path that is not a legal module name."""
    return Path(
        shutil.copytree(
            ROOT, tmp_path_factory.mktemp("v1.0") / "custom_nodes" / "comfyui-preload", ignore=LEFT_OUT
        )
    )


@pytest.fixture
def load(folder: Path, tmp_path: Path) -> Load:
    """Import the plugin in a fresh interpreter, with these settings or as shipped, and ask these paths."""

    def run(*words: str, settings: str | bytes | Path | None = None) -> dict[str, Any]:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PRELOAD_")}
        if isinstance(settings, str | bytes):
            text, settings = settings, tmp_path / "preload.yaml"
            settings.write_bytes(text.encode() if isinstance(text, str) else text)
        if settings is not None:
            environment["PRELOAD_CONFIG"] = str(settings)
        command = [sys.executable, "-I", str(CHILD), str(folder), *words]
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=60, env=environment
        )
        assert 0 == done.returncode, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    return run


@pytest.mark.parametrize(
    "settings",
    [None, "", "models: []", "when: background\ntimeout: 5"],
    ids=["shipped", "empty", "none", "others"],
)
def test_nothing_to_preload(load: Load, settings: str | None) -> None:
    """With an empty list.

    Mappings and routes, and nothing else: no thread, torch, pydantic, hook, log line or variable, and the
    collector as it was.
    """
    found = load("/ready", "/livez", "/preload", "/ready/x", "/api/ready", settings=settings)

    assert {"NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"} <= found["mappings"].keys()
    assert set(ROUTES) <= set(found["routes"])
    assert set() == {"torch", "pydantic", "numpy", "comfy", "nodes"} & set(found["modules"])
    assert ([], 0, [], []) == (found["threads"], found["on_startup"], found["log"], found["environment"])
    assert [True, 0] == found["collector"]
    assert [200, 200, 200, 404, 200] == [status for status, _ in found["answers"].values()]
    assert "ready" == found["answers"]["/ready"][1]["status"]


def test_cost(load: Load) -> None:
    """With an empty list few modules are imported, none from outside Python's library.

    `bench.costs` shows the time.
    """
    imported: list[str] = load()["imported"]
    others = {name.partition(".")[0] for name in imported if "comfyui-preload" not in name}

    assert len(imported) <= 70
    assert {"comfy_preload", "custom_node_prestartup"} == others - sys.stdlib_module_names


def test_path_is_left_alone(load: Load, folder: Path) -> None:
    """The plugin's folder is not put on `sys.path`: our `nodes` would take the place of ComfyUI's."""
    assert [] == [entry for entry in load()["path"] if Path(entry) in (folder, folder.parent)]


@pytest.mark.parametrize(
    "settings", [None, "models: [{vae: a}]", "- broken\n\t"], ids=["shipped", "models", "broken"]
)
def test_no_server(load: Load, settings: str | None) -> None:
    """Where a library embeds ComfyUI without a server there is nobody to be ready for."""
    found = load("--no-server", settings=settings)

    assert ([], 0) == (found["routes"], found["on_startup"])
    assert [True, 0] == found["collector"]


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        pytest.param("- checkpoint: a", "yaml_not_a_mapping", id="list"),
        pytest.param("just text", "yaml_not_a_mapping", id="text"),
        pytest.param("models:\n\t- checkpoint: a", "yaml_syntax", id="tab"),
        pytest.param("models: [", "yaml_syntax", id="unclosed"),
        pytest.param("models: !!python/name:os.system x", "yaml_syntax", id="python-tag"),
        pytest.param("timeout: !!int ''", "yaml_syntax", id="bad-tag"),
        pytest.param(b"models: caf\xe9", "yaml_syntax", id="latin-1"),
        pytest.param(b"\x00\x01\x02", "yaml_syntax", id="binary"),
        pytest.param("[" * 5000, "yaml_too_large", id="deep"),
        pytest.param("a: &a [*a]", "yaml_too_large", id="recursive"),
        pytest.param(
            "a: &a [1,1,1,1,1,1,1,1,1,1]\n"
            + "".join(f"{b}: &{b} [{','.join(['*' + a] * 10)}]\n" for a, b in ("ab", "bc", "cd", "de", "ef")),
            "yaml_too_large",
            id="anchor-bomb",
        ),
        pytest.param("#" * (2 << 20), "yaml_too_large", id="2-mib"),
        pytest.param("when: off\nwhen: off", "duplicate_key", id="duplicate"),
        pytest.param("modles: []", "unknown_key", id="unknown-key"),
        pytest.param("models: {checkpoint: a}", "wrong_value", id="wrong-type"),
        pytest.param("models: a", "wrong_value", id="models-text"),
        pytest.param("timeout: ${NOT_SET_ANYWHERE}\nx: 1", "env_unset", id="env"),
    ],
)
def test_broken_settings(load: Load, settings: str | bytes, code: str) -> None:
    """Settings that cannot be used never break ComfyUI's start.

    `/ready` is 503 and says why, and so does the log.
    """
    found = load("/ready", "/livez", "/api/ready", settings=settings)

    status, body = found["answers"]["/ready"]
    assert (503, "failed") == (status, body["status"])
    assert code == body["failing"]["preload.yaml"]["code"]
    assert body["failing"]["preload.yaml"]["hint"]
    assert [200, 503] == [found["answers"][path][0] for path in ("/livez", "/api/ready")]
    assert any(line.startswith("ERROR") and f"[{code}]" in line for line in found["log"])
    assert ([], [True, 0]) == (found["threads"], found["collector"])


def test_settings_file_missing(load: Load, tmp_path: Path) -> None:
    """A file that PRELOAD_CONFIG names and that is not there is reported without its path."""
    status, body = load("/ready", settings=tmp_path / "gone.yaml")["answers"]["/ready"]

    assert (503, "yaml_unreadable") == (status, body["failing"]["preload.yaml"]["code"])
    assert str(tmp_path) not in str(body)


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param("models: [{checkpoint: a.safetensors}]", id="good"),
        pytest.param("on_error: exit\nmodels: [{checkpoint: a.safetensors}]", id="exit"),
        pytest.param("models: [{}, 5, {vae: []}]", id="bad-entries"),
        pytest.param("models:\n" + "  - vae: a\n" * 10_000, id="10000-entries"),
        pytest.param("when: background\nmodels: [{clip: [a, b]}]", id="background"),
    ],
)
def test_host_cannot_be_imported(load: Load, settings: str) -> None:
    """If what we need of ComfyUI is not there, ComfyUI still starts.

    `/ready` is 503 and the log has the traceback.
    """
    found = load("/ready", settings=settings)

    status, body = found["answers"]["/ready"]
    assert (503, "failed", "internal") == (status, body["status"], body["failing"]["preload.yaml"]["code"])
    assert any("the preload could not be set up" in line for line in found["log"])
    assert ([], 0) == (found["threads"], found["on_startup"])
