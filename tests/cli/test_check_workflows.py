"""`check` and `plan` on workflows: the model files that they name, and the loaders in them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Cli


def test_workflow_in_a_user_directory(cli: Cli, tmp_path: Path) -> None:
    """Where ComfyUI is started with --user-directory, so is check; without it the file is not there."""
    flows = tmp_path / "user" / "default" / "workflows"
    flows.mkdir(parents=True)
    nodes = {"1": {"class_type": "UNETLoader", "inputs": {"unet_name": "tiny.safetensors"}}}
    (flows / "mine.json").write_text(json.dumps(nodes), encoding="utf-8")
    text = "workflows: [{path: workflows/mine.json}]"

    without = cli("check", "--json", preload=text)
    done = cli("check", "--json", "--user-directory", tmp_path / "user", preload=text)

    assert (1, "workflow_missing") == (without.code, without.json["workflows"][0]["problems"][0]["code"])
    assert (0, []) == (done.code, done.json["workflows"][0]["problems"])


def test_workflows(cli: Cli, tmp_path: Path) -> None:
    """The model files that a workflow names are looked for.

    Its nodes are left to the start, and that is said.
    """
    nodes = {
        "1": {"class_type": "UNETLoader", "inputs": {"unet_name": "sub/other.safetensors"}},
        "2": {"class_type": "PluginLoader", "inputs": {"any": "tiny.safetensors"}},
    }
    (tmp_path / "good.json").write_text(json.dumps(nodes), encoding="utf-8")
    nodes["3"] = {"class_type": "LoraLoader", "inputs": {"lora_name": "tinny.safetensors"}}
    (tmp_path / "bad.json").write_text(json.dumps(nodes), encoding="utf-8")
    good = "workflows: [{path: good.json}]"
    reported = cli("check", "--json", preload=good)
    assert 0 == reported.code
    assert ["sub/other.safetensors", "tiny.safetensors"] == [
        f["name"] for f in reported.json["workflows"][0]["files"]
    ]
    assert 0 < reported.json["bytes"] == reported.json["storage"][0]["bytes"]
    assert (
        "good.json: 2 model files, all there; its nodes are looked up at start-up only"
        in cli("plan", preload=good).out
    )

    done = cli(
        "plan",
        "--json",
        preload="workflows: [{path: '*d.json'}, {path: good.json, warmpu: true}, {path: no.json}]",
    )
    codes = [[p["code"] for p in row["problems"]] for row in done.json["workflows"]]
    assert (1, [["file_missing"], [], ["unknown_key"], ["workflow_missing"]]) == (done.code, codes)
    assert "Nearest: tiny.safetensors" in done.json["workflows"][0]["problems"][0]["hint"]


EDITOR = {
    "version": 0.4,
    "nodes": [
        {
            "id": 1,
            "type": "AnyLoader",
            "widgets_values": ["tiny.safetensors"],
            "outputs": [{"type": "ANYMODEL"}],
        },
        {
            "id": 2,
            "type": "AnyPatch",
            "widgets_values": ["tiny.safetensors"],
            "inputs": [{"name": "m", "type": "ANYMODEL", "link": 1}],
            "outputs": [{"type": "ANYMODEL"}],
        },
        {"id": 3, "type": "AnySave", "inputs": [{"name": "m", "type": "ANYMODEL", "link": 2}], "outputs": []},
        {
            "id": 4,
            "type": "AnyLoader",
            "widgets_values": ["gone.safetensors"],
            "outputs": [{"type": "ANYMODEL"}],
        },
        {"id": 5, "type": "Label"},
    ],
    "links": [[1, 1, 0, 2, 0, "ANYMODEL"], [2, 2, 0, 3, 0, "ANYMODEL"]],
}


API = {
    "1": {"class_type": "AnyLoader", "inputs": {"file": "tiny.safetensors"}},
    "2": {"class_type": "AnyPatch", "inputs": {"m": ["1", 0], "file": "tiny.safetensors"}},
    "3": {"class_type": "AnySave", "inputs": {"m": ["2", 0]}},
}


@pytest.mark.parametrize(
    ("name", "data", "left"),
    [
        pytest.param(
            "w.json", EDITOR, [("2", "loader_takes_model"), ("4", "workflow_node_unused")], id="editor"
        ),
        pytest.param("sub/w.json", {"input": {"workflow": API}}, [("2", "loader_takes_model")], id="api"),
    ],
)
def test_folder_of_workflows(
    cli: Cli, tmp_path: Path, name: str, data: Any, left: list[tuple[str, str]]
) -> None:
    """`--workflows`.

    Every file of a folder, the loaders in it and what cannot be preloaded, without any settings.
    """
    file = tmp_path / "flows [x]" / name
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(data), encoding="utf-8")
    done = cli("plan", "--json", "--workflows", tmp_path / "flows [x]")
    (row,) = done.json["workflows"]

    assert [{"node": "1", "loader": "AnyLoader"}] == row["loaders"]
    assert left == [(one["node"], one["code"]) for one in row["not_preloaded"]]
    out = cli("plan", "--workflows", file).out
    assert "Loaders in workflows" in out
    assert "Left to the first prompt, or a warm-up" in out


def test_file_that_many_workflows_name(cli: Cli, tmp_path: Path) -> None:
    """It is missing once, however many need it."""
    graph = {"1": {"class_type": "UNETLoader", "inputs": {"unet_name": "gone.safetensors"}}}
    for name in "abc":
        (tmp_path / f"{name}.json").write_text(json.dumps(graph), encoding="utf-8")
    out = cli("plan", "--workflows", tmp_path).out

    (line,) = [one for one in out.splitlines() if "gone.safetensors is in none of" in one]
    assert "a.json and 2 more" in line
