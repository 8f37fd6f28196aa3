"""`check` and `plan` find before the start what the start would find, over ComfyUI's own model folders."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Cli
from tests.support import gguf_file

GOOD = """
models:
  - checkpoint: tiny.safetensors
  - unet: sub/other.safetensors
    device: ram
  - vae: taesd
    required: false
  - loader: UpscaleModelLoader
    inputs: {model_name: tiny.safetensors}
"""


def models(reported: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in reported["models"]}


def codes(reported: dict[str, Any]) -> dict[str, list[str]]:
    return {
        row["name"]: [p["code"] for p in row["problems"]] for row in reported["models"] if row["problems"]
    }


def test_good(cli: Cli) -> None:
    """Nothing wrong: 0, and each model with its files, their sizes, their storage and their dtypes."""
    done = cli("check", "--json", preload=GOOD)
    reported = done.json

    assert 0 == done.code
    assert "" == done.err
    assert reported["ok"]
    assert ["tiny", "other", "taesd", "tiny-2"] == list(models(reported))
    assert ["fully"] * 4 == [row["checked"] for row in reported["models"]]
    assert {"unet_name": "sub/other.safetensors", "weight_dtype": "default"} == models(reported)["other"][
        "inputs"
    ]
    assert ["taesd_decoder.safetensors", "taesd_encoder.safetensors"] == sorted(
        f["name"] for f in models(reported)["taesd"]["files"]
    )
    file = models(reported)["tiny"]["files"][0]
    assert ("checkpoints", ["F16"]) == (file["folder"], list(file["dtypes"]))
    assert (
        reported["bytes"]
        == sum(row["bytes"] for row in reported["models"])
        == sum(part["bytes"] for part in reported["storage"])
    )
    assert {file["storage"]} == {part["kind"] for part in reported["storage"]}


@pytest.mark.parametrize("words", [["check", "--read", "0"], ["plan"]], ids=["check", "plan"])
def test_same_beginning(cli: Cli, words: list[str]) -> None:
    """Both commands tell the models in the same shape."""
    reported = cli(words[0], "--json", *words[1:], preload=GOOD).json

    assert ["ok", "comfyui", "bytes", "models", "duplicates", "workflows", "problems"] == list(reported)[:7]
    keys = ["name", "kind", "loader", "inputs", "files", "bytes", "device", "required", "checked", "problems"]
    assert [keys] * 4 == [list(row) for row in reported["models"]]


def test_plan_text(cli: Cli) -> None:
    """In order, with what each call is given."""
    done = cli("plan", preload=GOOD)
    rows = [line.split() for line in done.out.splitlines()]

    assert 0 == done.code
    assert [["1", "tiny"], ["2", "other"], ["3", "taesd"], ["4", "tiny-2"]] == [
        r[:2] for r in rows if r and r[0].isdigit()
    ][:4]
    assert "unet_name: sub/other.safetensors, weight_dtype: default" in done.out
    assert "optional" in done.out
    assert "ram" in done.out


@pytest.mark.parametrize(
    ("entry", "code"),
    [
        pytest.param("unet: tinny.safetensors", "file_missing", id="missing"),
        pytest.param("{unet: tiny.safetensors, weight_dtype: fp9}", "value_not_allowed", id="value"),
        pytest.param("{unet: tiny.safetensors, strength: 1}", "input_unknown", id="input"),
        pytest.param("{loader: UNETLoader}", "input_missing", id="no-file"),
        pytest.param("{loader: LoraLoaderModelOnly, inputs: {}}", "loader_takes_model", id="takes-model"),
        pytest.param("vae: taesdxl", "file_missing", id="tiny-vae-absent"),
        pytest.param("{unet: a, vae: b}", "entry_unclear", id="two-kinds"),
        pytest.param("{unet: tiny.safetensors, required: perhaps}", "wrong_value", id="schema"),
        pytest.param("unet: '${NOT_SET_ANYWHERE}'", "env_unset", id="variable"),
    ],
)
def test_finding(cli: Cli, entry: str, code: str) -> None:
    """The same codes as at start-up, with the line and a hint, and exit code 1."""
    done = cli("plan", "--json", preload=f"models:\n  - {entry}\n")
    (row,) = done.json["models"]

    assert 1 == done.code
    assert code == row["problems"][0]["code"]
    assert 2 == row["problems"][0]["line"]
    assert row["problems"][0]["hint"]


@pytest.mark.parametrize(
    ("content", "code"),
    [
        pytest.param(b"", "file_empty", id="empty"),
        pytest.param(b"<html>log in</html>" * 9, "file_not_safetensors", id="page"),
        pytest.param(struct.pack("<Q", 64) + b"x" * 4096, "file_not_safetensors", id="no-json"),
        pytest.param(struct.pack("<Q", 4000) + b"{", "file_truncated", id="truncated"),
    ],
)
def test_bad_file(cli: Cli, tmp_path: Path, content: bytes, code: str) -> None:
    """Headers are read."""
    folder = tmp_path / "base" / "models" / "diffusion_models"
    folder.mkdir(parents=True)
    (folder / "bad.safetensors").write_bytes(content)
    done = cli("check", "--json", preload="models: [{unet: bad.safetensors}]", at=tmp_path / "base")

    assert 1 == done.code
    assert {"bad": [code]} == codes(done.json)


def test_too_big(cli: Cli, tmp_path: Path) -> None:
    """What cannot fit is found; a file that is a hole is not read to measure the storage."""
    folder = tmp_path / "base" / "models" / "diffusion_models"
    folder.mkdir(parents=True)
    header = b'{"w":{"dtype":"F16","shape":[1099511627776],"data_offsets":[0,2199023255552]}}'
    with (folder / "big.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + (1 << 41))
    reported = cli("check", "--json", preload="models: [{unet: big.safetensors}]", at=tmp_path / "base").json

    assert {"big": ["too_big"]} == codes(reported)
    assert [None] == [part["speed"] for part in reported["storage"]]
    assert [None, None] == [reported["expected"][key] for key in ("read_seconds", "ready_seconds")]


@pytest.mark.parametrize(
    ("text", "code"),
    [("models: [", "yaml_syntax"), ("- a", "yaml_not_a_mapping"), ("wen: off", "unknown_key")],
)
def test_bad_settings(cli: Cli, text: str, code: str) -> None:
    """What is wrong with the whole file is a finding as well."""
    done = cli("check", "--json", preload=text)

    assert 1 == done.code
    assert [code] == [p["code"] for p in done.json["problems"]]


def test_absent_settings(cli: Cli, tmp_path: Path) -> None:
    """A file that is named must be there."""
    done = cli("check", "--config", tmp_path / "none.yaml", "--json")

    assert (1, "yaml_unreadable") == (done.code, done.json["problems"][0]["code"])


@pytest.mark.parametrize("command", ["check", "plan"])
def test_nothing(cli: Cli, command: str) -> None:
    """An empty list is good."""
    done = cli(command, preload="models: []")

    assert 0 == done.code
    assert "nothing to preload" in done.out


def test_other_plugins_loader(cli: Cli) -> None:
    """A loader that only the start can check is not an error.

    Its files are found all the same, and a typo is asked about.
    """
    preload = """
models:
  - {loader: UnetLoaderGGUF, inputs: {unet_name: tiny.safetensors, slow: true}}
  - {loader: UNETLoder, inputs: {unet_name: sub/other.safetensors}}
"""
    done, shown = cli("check", "--json", preload=preload), cli("plan", preload=preload)

    assert (0, 0) == (done.code, shown.code)
    assert ["its files"] * 2 == [row["checked"] for row in done.json["models"]]
    assert ["tiny.safetensors", "sub/other.safetensors"] == [
        f["name"] for row in done.json["models"] for f in row["files"]
    ]
    assert "tiny: the other inputs of UnetLoaderGGUF are checked at start-up only\n" in shown.out
    assert "or is it 'UNETLoader'?" in shown.out


def test_gguf_files(cli: Cli, tmp_path: Path) -> None:
    """They are looked for and looked into, though only a pack can load them."""
    folder = tmp_path / "base" / "models" / "unet" / "flux"
    good = gguf_file.write(folder / "good.gguf")
    (folder / "cut.gguf").write_bytes(good.read_bytes()[:-100])
    (folder / "page.gguf").write_bytes(b"<!DOCTYPE html>")
    wanted = {
        "good": ("flux/good.gguf", []),
        "cut": ("flux/cut.gguf", ["file_truncated"]),
        "page": ("flux/page.gguf", ["file_not_gguf"]),
        "gone": ("flux/goood.gguf", ["file_missing"]),
        "own": ("llm.gguf", []),
    }
    entries = [
        f"{{loader: AnyGGUFLoader, inputs: {{{'model' if name == 'own' else 'unet_name'}: {file}}}, name: "
        f"{name}}}"
        for name, (file, _) in wanted.items()
    ]

    done = cli("check", "--json", preload="models: [" + ", ".join(entries) + "]", at=tmp_path / "base")

    assert 1 == done.code
    assert {name: problems for name, (_, problems) in wanted.items() if problems} == codes(done.json)
    assert "Nearest: flux/good.gguf" in models(done.json)["gone"]["problems"][0]["hint"]
    assert ("its files", "at start-up only") == tuple(
        models(done.json)[n]["checked"] for n in ("good", "own")
    )


def test_duplicate(cli: Cli) -> None:
    """Two entries that come to the same call, one of them with the default written out."""
    preload = "models: [{unet: tiny.safetensors}, {unet: tiny.safetensors, weight_dtype: default}]"
    reported = cli("plan", "--json", preload=preload).json

    assert [{"name": "tiny-2", "same_as": "tiny"}] == reported["duplicates"]
    assert 1 == len(reported["models"])
