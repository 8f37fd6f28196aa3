"""The settings file: where it is, and what becomes of one that cannot be read."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from comfy_preload.core.errors import PreloadError
from comfy_preload.core.settings.document import (
    MAX_BYTES,
    Document,
    read,
    settings_path,
)
from tools.host import ROOT


@pytest.fixture(autouse=True)
def _no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PRELOAD_CONFIG", raising=False)


def test_find_default() -> None:
    """Without PRELOAD_CONFIG the file is config/preload.yaml in the plugin."""
    assert ROOT / "config" / "preload.yaml" == settings_path()


def test_find_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PRELOAD_CONFIG names the file."""
    monkeypatch.setenv("PRELOAD_CONFIG", str(tmp_path / "other.yaml"))

    assert tmp_path / "other.yaml" == settings_path()


def test_read(tmp_path: Path) -> None:
    """A file is read as YAML."""
    path = tmp_path / "preload.yaml"
    path.write_text("timeout: 5")

    assert {"timeout": 5} == read(path).data


def test_missing_default(tmp_path: Path) -> None:
    """Without a settings file there is nothing to do."""
    assert Document(None) == read(tmp_path / "preload.yaml")


def test_missing_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that PRELOAD_CONFIG names must exist; the message does not show the path."""
    monkeypatch.setenv("PRELOAD_CONFIG", str(tmp_path / "gone.yaml"))

    with pytest.raises(PreloadError) as caught:
        read(settings_path())
    assert "yaml_unreadable" == caught.value.problem.code
    assert str(tmp_path) not in str(caught.value)


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[Path]:
    """A file without read permission."""
    if sys.platform == "win32" or os.geteuid() == 0:
        pytest.skip("root, and Windows, read files whatever their mode says")
    path = tmp_path / "preload.yaml"
    path.write_text("timeout: 5")
    path.chmod(0)
    yield path
    path.chmod(0o600)


def test_permission_denied(locked: Path) -> None:
    """A file that may not be read is a problem."""
    with pytest.raises(PreloadError) as caught:
        read(locked)
    assert "yaml_unreadable" == caught.value.problem.code


def test_directory(tmp_path: Path) -> None:
    """A directory is not a settings file."""
    with pytest.raises(PreloadError) as caught:
        read(tmp_path)
    assert "yaml_unreadable" == caught.value.problem.code
    assert str(tmp_path) not in str(caught.value)


def test_two_megabytes(tmp_path: Path) -> None:
    """A file beyond the limit is refused without being parsed."""
    path = tmp_path / "preload.yaml"
    path.write_bytes(b"#" * 2 * MAX_BYTES)

    with pytest.raises(PreloadError) as caught:
        read(path)
    assert "yaml_too_large" == caught.value.problem.code


@pytest.mark.parametrize(
    ("env", "loads"),
    [
        ({}, True),
        ({"COMFYUI_IS_WORKER": "1"}, False),
        ({"COMFYUI_IS_WORKER": "1", "PRELOAD_WORKERS": "1"}, True),
        ({"COMFYUI_IS_WORKER": "0"}, True),
    ],
)
def test_worker_of_another_comfyui(
    env: dict[str, str],
    loads: bool,  # noqa: FBT001 — a case of the table
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A worker of ComfyUI-Distributed has its master's settings, and leaves them alone unless asked."""
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    file = tmp_path / "preload.yaml"
    file.write_text("models: [{vae: taesd}]", encoding="utf-8")

    assert loads == (read(file).data is not None)
