"""`check` finds ComfyUI, asks the machine, gives advice, and fits the terminal."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.command import command, environment, run
from tests.cli.conftest import Cli
from tests.support import safetensors_file
from tests.support.base_directory import put_plugin
from tools.host import comfyui_path

GOOD = """
models:
  - checkpoint: tiny.safetensors
  - unet: sub/other.safetensors
  - vae: taesd
  - loader: UpscaleModelLoader
    inputs: {model_name: tiny.safetensors}
"""


def test_extra_model_paths(cli: Cli, base: Path, tmp_path: Path) -> None:
    """Folders of --extra-model-paths-config are searched, as by ComfyUI."""
    (tmp_path / "elsewhere").mkdir()
    extra = tmp_path / "extra.yaml"
    extra.write_text(
        f"more:\n  base_path: {base}/models\n  diffusion_models: diffusion_models/sub\n", encoding="utf-8"
    )
    preload = "models: [{unet: other.safetensors}]"

    assert 1 == cli("plan", preload=preload).code
    assert 0 == cli("plan", "--extra-model-paths-config", extra, preload=preload).code


def test_broken_extra_model_paths(cli: Cli, tmp_path: Path) -> None:
    """One sentence, no traceback."""
    done = cli("plan", "--json", "--extra-model-paths-config", tmp_path / "none.yaml", preload=GOOD)

    assert (1, "comfyui_unusable") == (done.code, done.json["error"]["code"])
    assert "Traceback" not in done.err


def test_own_arguments(cli: Cli) -> None:
    """ComfyUI reads the command line too; ours is kept from it."""
    assert 0 == cli("check", "--read", "1", "--json", preload=GOOD).code


@pytest.mark.parametrize(("words", "start"), [((), 10), (("--imports", "4000"), 4000)], ids=["usual", "told"])
def test_expected_time(cli: Cli, words: tuple[str, ...], start: float) -> None:
    """Ready: reading and ComfyUI's own start side by side, then copying."""
    expected = cli("check", "--read", "1", *words, "--json", preload=GOOD).json["expected"]

    assert start == expected["import_seconds"]
    assert expected["copy_seconds"] > 0
    assert (
        pytest.approx(max(expected["read_seconds"], start) + expected["copy_seconds"], abs=0.01)
        == expected["ready_seconds"]
    )


def test_expected_time_not_measured(cli: Cli) -> None:
    """Nothing is guessed where nothing was read."""
    done = cli("check", "--read", "0", "--json", preload=GOOD)

    assert [None] * 3 == [
        done.json["expected"][key] for key in ("read_seconds", "copy_seconds", "ready_seconds")
    ]
    assert "Expected time" not in cli("check", "--read", "0", preload=GOOD).out


def test_two_folders_up(base: Path, tmp_path: Path) -> None:
    """Installed in custom_nodes, nobody has to say where ComfyUI is."""
    comfyui = tmp_path / "ComfyUI"
    comfyui.mkdir()
    for entry in comfyui_path().iterdir():
        if entry.name not in ("custom_nodes", "models", "input", "output", "user", "temp"):
            (comfyui / entry.name).symlink_to(entry)
    # a copy, not a link: ComfyUI takes its base directory from where this file really is
    (comfyui / "folder_paths.py").unlink()
    (comfyui / "folder_paths.py").write_bytes((comfyui_path() / "folder_paths.py").read_bytes())
    (comfyui / "models").symlink_to(base / "models")
    plugin = put_plugin(comfyui / "custom_nodes" / "comfyui-preload")
    (plugin / "config" / "preload.yaml").write_text(GOOD, encoding="utf-8")
    words = command("plan", "--json", plugin=plugin)

    done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=60, env=environment())
    assert 0 == done.returncode, done.stderr
    assert 4 == len(json.loads(done.stdout)["models"])


def test_no_comfyui() -> None:
    """Not found: usage, with what to do."""
    done = run("check", "--json")

    assert (2, "comfyui_not_found") == (done.code, done.json["error"]["code"])


def test_advice(cli: Cli, tmp_path: Path) -> None:
    """An fp32 file, and a VAE that has a tiny one, are pointed out; advice alone is not a finding."""
    models = tmp_path / "base" / "models"
    vae = {"decoder.conv_in.weight": (512, 4, 3, 3), "encoder.conv_out.weight": (8, 512, 3, 3)}
    safetensors_file.write(models / "vae" / "sdxl_vae.safetensors", vae)
    header = b'{"w":{"dtype":"F32","shape":[256],"data_offsets":[0,1024]}}     '
    (models / "diffusion_models").mkdir()
    (models / "diffusion_models" / "wide.safetensors").write_bytes(
        struct.pack("<Q", len(header)) + header + bytes(1024)
    )
    preload = "models: [{unet: wide.safetensors}, {vae: sdxl_vae.safetensors}]"
    done = cli("check", "--json", preload=preload, at=tmp_path / "base")

    assert 0 == done.code
    assert [("fp32", "wide", 512), ("tiny_vae", "sdxl_vae", 110592)] == [
        (one["kind"], one["model"], one["saves"]) for one in done.json["advice"]
    ]
    assert "taesdxl" in done.json["advice"][1]["text"]
    assert "convert --dtype fp16" in cli("check", preload=preload, at=tmp_path / "base").out


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script stands for nvidia-smi")
@pytest.mark.parametrize(
    ("script", "total", "free"),
    [
        pytest.param("echo '24564, 20000'; echo '1, 1'", 24564 << 20, 20000 << 20, id="two-gpus"),
        pytest.param("echo 'Failed to initialize NVML'; exit 9", None, None, id="driver-broken"),
        pytest.param("echo '[N/A], [N/A]'", None, None, id="not-told"),
    ],
)
def test_vram(cli: Cli, tmp_path: Path, script: str, total: int | None, free: int | None) -> None:
    """As nvidia-smi says of the first GPU; unknown where it says nothing."""
    program = tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    program.chmod(0o755)
    env = {"PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}"}
    memory = cli("check", "--json", "--read", "0", preload=GOOD, env=env).json["memory"]

    assert (total, free) == (memory["vram"], memory["vram_free"])
    assert 0 < memory["available"] <= memory["ram"]


def test_terminal(base: Path, tmp_path: Path) -> None:
    """A terminal gets the same tables as a pipe, without codes for colours.

    Brackets in a name are printed as they are.
    """
    (tmp_path / "preload.yaml").write_text("models: [{unet: '[bold]x.safetensors'}]", encoding="utf-8")
    words = command(
        "plan", "--config", tmp_path / "preload.yaml", "--comfyui", comfyui_path(), "--base-directory", base
    )
    pty = pytest.importorskip("pty")
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(words[0], words, environment({"TERM": "xterm", "COLUMNS": "200"}))  # noqa: S606 — our own
    shown = b""
    try:
        while chunk := os.read(terminal, 65536):
            shown += chunk
    except OSError:  # Linux ends a pseudo-terminal so
        pass
    _, status = os.waitpid(pid, 0)
    os.close(terminal)

    assert 1 == os.waitstatus_to_exitcode(status)
    assert b"\x1b[" not in shown.replace(b"\r\x1b[K", b"")
    assert "[bold]x.safetensors" in shown.decode()
