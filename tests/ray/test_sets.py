"""sets.yaml: which set a prompt is for, what a replica holds, and files that cannot be used. Without Ray."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.ray.sets import Sets, SetsError
from tests.support import prompts
from tools.host import RAY_VENV, ROOT, venv_bin

CLIP = {"clip": "clip_l.safetensors", "type": "sd3"}
TWO = {
    "a": {"models": [{"unet": "m0.safetensors"}, CLIP]},
    "b": {"models": [{"unet": "sub/m1.safetensors"}, CLIP]},
}


def sets(given: Any = TWO, **more: Any) -> Sets:
    """The sets of a file."""
    return Sets.of({"sets": given, **more})


@pytest.mark.parametrize(
    ("prompt", "name"),
    [
        (prompts.image(unet="m0.safetensors"), "a"),
        (prompts.image(unet="sub/m1.safetensors"), "b"),
        (prompts.image(unet="sub\\m1.safetensors"), "b"),
        (prompts.image(unet="m0.safetensors", lora="m1.safetensors"), "a"),
        (prompts.load("CLIPLoader", clip_name="clip_l.safetensors"), "a"),
        (prompts.load("VAELoader", vae_name="else.safetensors"), None),
        (prompts.unrelated(), None),
        ({"1": {"class_type": "X"}, "2": 3, "3": {"inputs": None}}, None),
        ([], None),
        (None, None),
    ],
)
def test_for_prompt(prompt: Any, name: str | None) -> None:
    """The set that has most of the prompt's models; None where no set has any."""
    assert name == sets().for_prompt(prompt)


def test_held() -> None:
    """A set is held if all its required models are loaded, whatever else is."""
    given = {**TWO, "b": {"models": [*TWO["b"]["models"], {"vae": "taesd", "required": False}]}}
    rows = [
        {"name": n, "state": s} for n, s in (("m1", "evicted"), ("clip_l", "resident"), ("m0", "released"))
    ]

    assert {"b"} == sets(given).held(rows)
    assert set() == sets(given).held(rows[:1])


def test_preload_yaml() -> None:
    """A model of two sets is listed once; files of one name get different names."""
    same = {
        "a": {"models": [{"unet": "m.safetensors"}, CLIP]},
        "b": {"models": [{"vae": "m.safetensors"}, CLIP]},
    }
    found = yaml.safe_load(sets(same, settings={"drain": 5}).preload_yaml(["a", "b"], 9000))

    assert {"port": 9000} == found["probe"]
    assert 5 == found["drain"]
    assert ["m", "clip_l", "m-2"] == [entry["name"] for entry in found["models"]]


def test_workflow(tmp_path: Path) -> None:
    """The loader nodes of a workflow in API format are the models of its set."""
    (tmp_path / "w.json").write_text(json.dumps(prompts.image(unet="m0.safetensors")), encoding="utf-8")

    found = Sets.of({"sets": {"a": {"workflow": "w.json"}}}, tmp_path)

    assert ["m0", "clip_l"] == [model.name for model in found.models["a"]]
    assert "UNETLoader" == found.models["a"][0].entry["loader"]
    assert "a" == found.for_prompt(prompts.image(unet="m0.safetensors"))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "the file is a NoneType"),
        ("sets: {}", "sets is empty"),
        ("sets: [a]", "sets is a list"),
        ("sets: {a: {models: []}}", "set a has no models"),
        ("sets: {a: {model: []}}", "set a has model; expected models or workflow"),
        ("sets: {a: {}}", "set a has nothing"),
        ("sets: {a: {models: [{unett: x.pt}]}}", "set a: .* unett"),
        ("sets: {a: {models: [{unet: 3}]}}", "unet is 3"),
        ("sets: {a: {workflow: absent.json}}", "absent.json is not a workflow"),
        ("sets: {a: {workflow: sets.yaml}}", "sets.yaml is not a workflow"),
        ("per_replica: 0\nsets: {a: {models: [{unet: x.pt}]}}", "per_replica is 0"),
        ("per_replica: yes\nsets: {a: {models: [{unet: x.pt}]}}", "per_replica is True"),
        ("settings: {models: []}\nsets: {a: {models: [{unet: x.pt}]}}", "settings has models"),
        ("settings: {drian: 5}\nsets: {a: {models: [{unet: x.pt}]}}", "unknown key .drian."),
        ("set: {}", "set is not a key"),
        ("sets: {a: [", "sets.yaml: "),
    ],
)
def test_bad_file(tmp_path: Path, text: str, sentence: str) -> None:
    """A file that cannot be used is named with what is wrong with it, and without its folder."""
    file = tmp_path / "sets.yaml"
    file.write_text(text, encoding="utf-8")

    with pytest.raises(SetsError, match=sentence) as raised:
        Sets.read(file)

    assert str(tmp_path) not in str(raised.value)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(SetsError, match=r"sets\.yaml: No such file"):
        Sets.read(tmp_path / "sets.yaml")


def test_shipped_configurations() -> None:
    """Serve's own schema and our options take serve.yaml and the RayService's configuration.

    The sets can be used.
    """
    folder = ROOT / "deploy" / "ray"
    documents = list(yaml.safe_load_all((folder / "rayservice.yaml").read_text(encoding="utf-8")))
    (service,) = [one for one in documents if one["kind"] == "RayService"]
    (config,) = [one for one in documents if one["kind"] == "ConfigMap"]
    assert Sets.of(yaml.safe_load(config["data"]["sets.yaml"])) == Sets.read(folder / "sets.yaml")
    python = venv_bin("python", RAY_VENV)
    if not python.exists():
        pytest.skip("Ray Serve is not installed: run `make setup`")
    configurations = [(folder / "serve.yaml").read_text(encoding="utf-8"), service["spec"]["serveConfigV2"]]
    code = """
import json, sys, yaml
from ray.serve.schema import ServeDeploySchema
from deploy.ray.comfyui import Options
from deploy.ray.replica import Comfy
for text in json.load(sys.stdin):
    (app,) = ServeDeploySchema.model_validate(yaml.safe_load(text)).applications
    Options.model_validate(app.args)
    assert [one.name for one in app.deployments] == [Comfy.name], app.deployments
print("good")
"""
    done = subprocess.run(
        [str(python), "-c", code],
        input=json.dumps(configurations),
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (0, "good\n") == (done.returncode, done.stdout), done.stderr
