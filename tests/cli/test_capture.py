"""History and queue -> settings that mean the same calls, most used first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from comfy_preload.cli.capture import Capture, write
from comfy_preload.core.node_types import Value
from comfy_preload.core.settings.document import parse
from comfy_preload.core.settings.validation import validate
from comfy_preload.core.settings.write import WrittenCall


def captured(*calls: tuple[str, Mapping[str, Value]], uses: int = 1) -> Capture:
    return Capture(9, {WrittenCall.of(loader, inputs): uses for loader, inputs in calls})


@pytest.mark.parametrize(
    ("loader", "inputs", "entry"),
    [
        pytest.param(
            "CheckpointLoaderSimple", {"ckpt_name": "a.ckpt"}, {"checkpoint": "a.ckpt"}, id="checkpoint"
        ),
        pytest.param(
            "UNETLoader", {"unet_name": "a", "weight_dtype": "default"}, {"unet": "a"}, id="unet-default"
        ),
        pytest.param(
            "UNETLoader",
            {"unet_name": "a", "weight_dtype": "fp8_e5m2"},
            {"unet": "a", "weight_dtype": "fp8_e5m2"},
            id="unet-fp8",
        ),
        pytest.param(
            "CLIPLoader", {"clip_name": "a", "type": "sd3"}, {"clip": "a", "type": "sd3"}, id="clip"
        ),
        pytest.param(
            "CLIPLoader",
            {"clip_name": "a", "type": "sd3", "device": "default"},
            {"clip": "a", "type": "sd3"},
            id="clip-device",
        ),
        pytest.param(
            "CLIPLoader",
            {"clip_name": "a", "type": "sd3", "device": "cpu"},
            {"loader": "CLIPLoader", "inputs": {"clip_name": "a", "type": "sd3", "device": "cpu"}},
            id="clip-on-cpu",
        ),
        pytest.param(
            "DualCLIPLoader",
            {"clip_name1": "a", "clip_name2": "b", "type": "flux", "device": "default"},
            {"clip": ["a", "b"], "type": "flux"},
            id="dual",
        ),
        pytest.param(
            "TripleCLIPLoader",
            {"clip_name1": "a", "clip_name2": "b", "clip_name3": "c"},
            {"clip": ["a", "b", "c"]},
            id="triple",
        ),
        pytest.param("VAELoader", {"vae_name": "taesd"}, {"vae": "taesd"}, id="vae"),
        pytest.param(
            "UpscaleModelLoader",
            {"model_name": "x.pth"},
            {"loader": "UpscaleModelLoader", "inputs": {"model_name": "x.pth"}},
            id="any",
        ),
        pytest.param("NoInputs", {}, {"loader": "NoInputs"}, id="no-inputs"),
        pytest.param(
            "CheckpointLoaderSimple",
            {"ckpt_name": "SDXL\\写实: [v1] #2 'x'.safetensors"},
            {"checkpoint": "SDXL\\写实: [v1] #2 'x'.safetensors"},
            id="needs-quotes",
        ),
        pytest.param(
            "Numbers",
            {"a": 1, "b": 0.5, "c": True, "d": "yes", "e": "1e3", "f": None},
            {"loader": "Numbers", "inputs": {"a": 1, "b": 0.5, "c": True, "d": "yes", "e": "1e3", "f": None}},
            id="types",
        ),
    ],
)
def test_entry(loader: str, inputs: dict[str, Value], entry: dict[str, Any]) -> None:
    """Shorthands where they fit.

    Read back, the entry is the same call, but for inputs that mean nothing when left out.
    """
    text, rows = write(captured((loader, inputs)))
    settings = validate(parse(text))

    assert [entry] == [row["entry"] for row in rows]
    assert () == settings.problems
    (read,) = settings.entries
    assert ((), loader) == (read.problems, read.loader)
    assert {k: v for k, v in inputs.items() if k in read.inputs} == read.inputs
    assert {"default"} >= {v for k, v in inputs.items() if k not in read.inputs}


def test_order_and_counts() -> None:
    """In the order of the uses, each with its count."""
    found = Capture(
        3,
        {
            WrittenCall("VAELoader", (("vae_name", "b"),)): 3,
            WrittenCall("VAELoader", (("vae_name", "a"),)): 1,
        },
    )
    text, rows = write(found)

    assert [3, 1] == [row["uses"] for row in rows]
    assert ["b", "a"] == [entry.inputs["vae_name"] for entry in validate(parse(text)).entries]
    assert text.endswith("models:\n  # in 3 of 3\n  - vae: b\n  # in 1 of 3\n  - vae: a\n")


@pytest.mark.parametrize(
    "inputs",
    [
        pytest.param({"vae_name": "${NOT_SET_ANYWHERE}.safetensors"}, id="variable"),
        pytest.param({"vae_name": ""}, id="no-name"),
        pytest.param({"vae_name": "x" * 600}, id="too-long"),
    ],
)
def test_left_out(inputs: dict[str, Value]) -> None:
    """What our settings cannot say is left out with a warning; the rest stays."""
    found = captured(("VAELoader", inputs), ("VAELoader", {"vae_name": "good"}))
    text, rows = write(found)

    assert [{"vae": "good"}] == [row["entry"] for row in rows]
    assert [()] == [entry.problems for entry in validate(parse(text)).entries]
    assert ["VAELoader is left out"] == [warning[:21] for warning in found.warnings]


def test_variable_that_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file name with ${…} would be another file where the variable is set."""
    monkeypatch.setenv("HERE", "gone")
    _, rows = write(captured(("VAELoader", {"vae_name": "${HERE}.safetensors"})))

    assert [] == rows


def test_too_many() -> None:
    """No more than the settings take."""
    found = captured(*(("VAELoader", {"vae_name": str(i)}) for i in range(1003)))
    text, rows = write(found)

    assert 1000 == len(rows)
    assert () == validate(parse(text)).problems
    assert found.warnings
