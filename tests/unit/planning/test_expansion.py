"""`workflows:` -> entries and warm-up prompts: which files are meant, what is set, what is saved."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import pytest

from comfy_preload.core.log import MAX_LINES
from comfy_preload.core.node_types import NodeSpec, NodeTypes, declared
from comfy_preload.core.planning import warm_up as warmup
from comfy_preload.core.planning.expansion import Expansion, expand
from comfy_preload.core.planning.rows import WarmUpState
from comfy_preload.core.settings.document import parse
from comfy_preload.core.settings.schema import Shape
from comfy_preload.core.settings.validation import Settings, validate
from comfy_preload.core.workflow.locate import MOST_FILES, locate

_INT = ("INT", {"default": 1})


class Types(NodeTypes):
    """A few node classes, declared as ComfyUI declares them."""

    _table: ClassVar[dict[str, tuple[dict[str, Any], tuple[str, ...], bool]]] = {
        "UNETLoader": ({"unet_name": (["a.safetensors"],)}, ("MODEL",), False),
        "VAELoader": ({"vae_name": (["taesd"],)}, ("VAE",), False),
        "EmptyLatentImage": ({"width": _INT, "height": _INT, "batch_size": _INT}, ("LATENT",), False),
        "KSampler": ({"model": ("MODEL",), "latent": ("LATENT",), "steps": _INT}, ("LATENT",), False),
        "VAEDecode": ({"samples": ("LATENT",), "vae": ("VAE",)}, ("IMAGE",), False),
        "SaveImage": ({"images": ("IMAGE",), "filename_prefix": ("STRING", {})}, (), True),
        "SaveAndPass": ({"images": ("IMAGE",), "prefix": ("STRING", {})}, ("IMAGE",), True),
        "ShowText": ({"text": ("STRING", {})}, (), True),
    }

    def node(self, class_type: str) -> NodeSpec | None:
        found = self._table.get(class_type)
        return declared(class_type, {"required": found[0]}, found[1], output_node=found[2]) if found else None


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def workflow() -> warmup.Prompt:
    return {
        "1": node("UNETLoader", unet_name="a.safetensors"),
        "2": node("VAELoader", vae_name="taesd"),
        "3": node("EmptyLatentImage", width=512, height=512, batch_size=1),
        "4": node("KSampler", model=["1", 0], latent=["3", 0], steps=20),
        "5": node("VAEDecode", samples=["4", 0], vae=["2", 0]),
        "6": node("SaveAndPass", images=["5", 0], prefix="a"),
        "7": node("SaveImage", images=["6", 0], filename_prefix="b"),
        "8": node("ShowText", text="hello"),
    }


def read(text: str) -> Settings:
    return validate(parse(text))


def expanded(folder: Path, text: str, /, **files: object) -> Expansion:
    for name, content in files.items():
        (folder / f"{name}.json").write_text(
            content if isinstance(content, str) else json.dumps(content), encoding="utf-8"
        )
    return expand(read(text).workflows, [folder], Types(), ["a"])


def test_locate(tmp_path: Path) -> None:
    """A file, a directory, a pattern; the first folder that has any; sorted; named without the folder."""
    one, two = tmp_path / "one", tmp_path / "two"
    for file in (
        one / "flows" / "b.json",
        one / "flows" / "a.json",
        one / "flows" / "n.txt",
        two / "x.json",
        two / "flows" / "c.json",
    ):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()

    def names(path: str) -> list[str]:
        return [name for name, _ in locate(path, [one, two])]

    assert ["flows/a.json"] == names("flows/a.json")
    assert ["flows/a.json", "flows/b.json"] == names("flows") == names("flows/*.json") == names("**/*.json")
    assert ["x.json"] == names("x.json")
    assert ["a.json"] == [name for name, _ in locate(str(one / "flows" / "a.json"), [two])]
    assert [] == names("nowhere.json") == names("*.png")
    for number in range(MOST_FILES + 5):
        (two / f"{number}.json").touch()
    assert MOST_FILES == len(names("[0-9]*.json"))


@pytest.mark.parametrize("folder", ["plain", "[AI] models", "{x} y"])
@pytest.mark.parametrize("name", ["portrait [v2].json", "[x].json", "a{b}.json"])
def test_locate_by_brackets(tmp_path: Path, folder: str, name: str) -> None:
    """Names and folders may hold characters of patterns."""
    file = tmp_path / folder / "flows" / name
    file.parent.mkdir(parents=True)
    file.touch()

    for path in (f"flows/{name}", "flows", "flows/*.json", "**/*.json"):
        assert [(f"flows/{name}", file)] == list(locate(path, [tmp_path / folder]))


def test_locate_leaves_out(tmp_path: Path) -> None:
    """Files of editors and of macOS, and folders below; a pattern enters those. One that is named counts."""
    for name in (".index.json", "._a.json", "a.json", "below/b.json", "below/.c.json", "folder.json/x.txt"):
        (tmp_path / "flows" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "flows" / name).touch()

    def names(path: str) -> list[str]:
        return [name for name, _ in locate(path, [tmp_path])]

    assert ["flows/a.json"] == names("flows") == names("flows/*.json")
    assert ["flows/a.json", "flows/below/b.json"] == names("flows/**/*.json")
    assert ["flows/.index.json"] == names("flows/.index.json")


def test_entries(tmp_path: Path) -> None:
    """Each loader of a workflow is an entry with a name of its own; two workflows may share one."""
    text = "workflows: [{path: f.json, required: false, device: ram}, {path: f.json, warmup: true}]"
    found = expanded(tmp_path, text, f=workflow())
    assert ["a-2", "taesd", "a-3", "taesd-2"] == [entry.name for entry in found.entries]
    assert [("unet", False, "ram"), ("vae", True, "gpu")] == [
        (e.kind, e.required, e.device) for e in found.entries[::3]
    ]
    assert {"unet_name": "a.safetensors"} == found.entries[0].inputs
    assert [("f.json", WarmUpState.PENDING, ("512x512, batch 1",))] == [
        (r.row.name, r.row.state, r.row.shapes) for r in found.runs
    ]


def test_log_of_a_workflow_of_foreign_nodes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Hundreds of nodes that are not installed are not hundreds of lines."""
    foreign = {f"x{n}": node("NotInstalled", images=["5", 0]) for n in range(300)}
    made = expanded(tmp_path, "workflows: [{path: w.json}]", w={**workflow(), **foreign})

    assert not made.runs
    assert MAX_LINES + 1 == len(caplog.messages)
    assert "more nodes of the workflows were left out" in caplog.messages[-1]


def test_overrides_and_shapes(tmp_path: Path) -> None:
    """Set by node or by class; one prompt for each size; the file's own values stay where nothing is set."""
    text = """
workflows:
  - path: f.json
    warmup: true
    overrides: {4.steps: 2, EmptyLatentImage.batch_size: 3}
    shapes: [{width: 64}, {width: 128, height: 96, batch: 1}]
"""
    (runs,) = expanded(tmp_path, text, f=workflow()).runs
    assert ("64x512, batch 3", "128x96, batch 1") == runs.row.shapes
    assert [2, 2] == [prompt["4"]["inputs"]["steps"] for prompt in runs.prompts]
    assert [(64, 512), (128, 96)] == [
        (p["3"]["inputs"]["width"], p["3"]["inputs"]["height"]) for p in runs.prompts
    ]


def test_nothing_is_saved(tmp_path: Path) -> None:
    """Savers become sinks, what a saver hands on is taken from before it, what only shows is left out."""
    (runs,) = expanded(tmp_path, "workflows: [{path: f.json, warmup: true}]", f=workflow()).runs
    (prompt,) = runs.prompts
    assert {"class_type": warmup.SINK, "inputs": {"any0": ["5", 0]}} == prompt["6"] == prompt["7"]
    assert "8" not in prompt


def plugin() -> warmup.Prompt:
    """A workflow whose model comes from a class that is not installed."""
    return {**workflow(), "1": node("FancyLoader", unet_name="a.safetensors")}


@pytest.mark.parametrize(
    ("entry", "code"),
    [
        ("{path: nowhere.json}", "workflow_missing"),
        ("{path: f.json, warmup: true, overrides: {9.steps: 1}}", "override_unknown"),
        ("{path: f.json, warmup: true, overrides: {4.stepz: 1}}", "override_unknown"),
        ("{path: text.json}", "workflow_syntax"),
        ("{path: other.json}", "workflow_unknown_format"),
        ("{path: plugin.json, warmup: true}", "workflow_node_unknown"),
        ("{pth: f.json}", "workflow_unclear"),
        ("{path: f.json, shapes: [{width: 1}]}", "wrong_value"),
        ("{path: f.json, overrides: {steps: 1}}", "wrong_value"),
        ("{path: f.json, warmpu: true}", "unknown_key"),
        ("just-a-text", "workflow_unclear"),
    ],
)
def test_what_goes_wrong(tmp_path: Path, entry: str, code: str) -> None:
    """Each becomes a failed row with its line; the good one beside it is read all the same."""
    files = {"f": workflow(), "text": "hello", "other": {"a": 1}, "plugin": plugin()}
    found = expanded(tmp_path, f"workflows:\n  - {entry}\n  - {{path: f.json, warmup: true}}\n", **files)
    bad, good = found.runs
    assert (WarmUpState.FAILED, [code], [2]) == (
        bad.row.state,
        [p.code for p in bad.row.problems],
        [p.line for p in bad.row.problems],
    )
    assert all(p.message.count(bad.row.name) == 1 for p in bad.row.problems if p.code != "wrong_value")
    assert WarmUpState.PENDING is good.row.state
    assert str(tmp_path) not in str(found.runs)


def test_same_workflow_twice(tmp_path: Path) -> None:
    text = "workflows: [{path: f.json, warmup: true}, {path: f.json, warmup: true, overrides: {4.steps: 1}}]"
    assert ["f.json", "f.json#2"] == [runs.row.name for runs in expanded(tmp_path, text, f=workflow()).runs]


def test_computed_size_stays() -> None:
    """A width that another node computes is left to it, and that is said."""
    prompt = workflow()
    prompt["3"]["inputs"]["width"] = ["2", 0]
    assert not warmup.sized(prompt, Shape(width=64), Types())
    assert ["2", 0] == prompt["3"]["inputs"]["width"]
    assert "as the workflow has it" == warmup.shape_of(prompt, Types())
