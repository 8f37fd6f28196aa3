"""The same call is made once, however it is written and however many workflows need it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from comfy_preload.core.host import GraphNode
from comfy_preload.core.planning.plan import build
from comfy_preload.core.settings.document import parse
from comfy_preload.core.settings.entry import Entry
from comfy_preload.core.settings.validation import validate
from tests.support.catalogue import Catalogue, planned


@pytest.mark.parametrize(
    ("entries", "duplicates"),
    [
        pytest.param("  - vae: taesd\n  - vae: taesd\n", [("taesd-2", "taesd")], id="same"),
        pytest.param(
            "  - vae: taesd\n  - {loader: VAELoader, inputs: {vae_name: taesd}}\n",
            [("VAELoader", "taesd")],
            id="long-form",
        ),
        pytest.param(
            "  - unet: flux1-dev.safetensors\n  - {unet: flux1-dev.safetensors, weight_dtype: default}\n",
            [("flux1-dev-2", "flux1-dev")],
            id="default-written-out",
        ),
        pytest.param(
            "  - {clip: clip_l.safetensors, type: sd3}\n  - {loader: CLIPLoader, name: x, "
            "inputs: {clip_name: clip_l.safetensors, type: sd3, device: default}}\n",
            [("x", "clip_l")],
            id="default-of-the-function",
        ),
        pytest.param(
            "  - vae: taesd\n  - {vae: taesd, device: ram}\n", [("taesd-2", "taesd")], id="other-device"
        ),
        pytest.param(
            "  - unet: flux1-dev.safetensors\n  - {unet: flux1-dev.safetensors, weight_dtype: fp8_e5m2}\n",
            [],
            id="other-value",
        ),
        pytest.param("  - vae: zzz\n  - vae: zzz\n", [("zzz-2", "zzz")], id="wrong-ones-too"),
    ],
)
def test_duplicates(entries: str, duplicates: list[tuple[str, str]]) -> None:
    """The same call is made once, however it is written; the later entry is left out."""
    plan = planned(entries)

    assert duplicates == list(plan.duplicates)
    assert 2 - len(duplicates) == len(plan.calls)


@pytest.mark.parametrize(
    "entries",
    [
        pytest.param("  - vae: gone.sft\n  - {loader: VAELoader, inputs: {vae_name: gone.sft}}\n", id="file"),
        pytest.param(
            "  - unet: gone.sft\n  - {loader: UNETLoader, inputs: {unet_name: gone.sft, weight_dtype: "
            "default}}\n",
            id="file-and-default",
        ),
        pytest.param("  - {loader: Zz, inputs: {a: 1}}\n" * 2, id="class"),
        pytest.param("  - vae: taesd\n  - {vae: taesd, name: again}\n", id="good"),
    ],
)
def test_same_call_is_one_row(entries: str) -> None:
    """What 38 workflows miss is reported once, and is required if one of them requires it."""
    first, other = validate(parse(f"models:\n{entries}")).entries
    many = [replace(first, required=False), *(replace(other, name=f"copy-{i}") for i in range(37))]

    plan = build(many, Catalogue())

    assert [first.name] == [c.name for c in plan.calls]
    assert 37 == len(plan.duplicates)
    assert plan.calls[0].entry.required


@pytest.mark.parametrize(("written", "same"), [("1", "1.0"), ("'2'", "2.0"), ("true", "1.0")])
def test_values_as_the_executor_has_them(written: str, same: str) -> None:
    """ComfyUI converts what a prompt holds to the input's type before the node is called.

    1 and 1.0 are the same call.
    """
    entries = "".join(
        f"  - {{loader: ScaledLoader, inputs: {{ckpt_name: sd15.safetensors, scale: {value}}}}}\n"
        for value in (written, same)
    )

    assert 1 == len(planned(entries).calls)
    assert all(isinstance(c.target.inputs["scale"], float) for c in planned(entries).calls if c.target)


def from_workflow(name: str, loader: str, graph: dict[str, Any], node: str = "1") -> Entry:
    inputs = {key: value for key, value in graph[node]["inputs"].items() if not isinstance(value, list)}
    links = {
        key: (value[0], value[1]) for key, value in graph[node]["inputs"].items() if isinstance(value, list)
    }
    return Entry(name, "loader", loader, inputs, node=GraphNode(node, graph), links=links)


def test_missing_once() -> None:
    """A file that many workflows name is missing once, whatever their nodes are called."""
    entries = [
        from_workflow(
            f"gone-{i}",
            "VAELoader",
            {str(i): {"class_type": "VAELoader", "inputs": {"vae_name": "gone.sft"}}},
            str(i),
        )
        for i in range(38)
    ]
    found = build(entries, Catalogue())

    assert ["gone-0"] == [call.name for call in found.calls]
    assert ["file_missing"] == [p.code for p in found.calls[0].problems]
    assert 37 == len(found.duplicates)


def test_linked_inputs() -> None:
    """Calls with other nodes before them are the same if those are, whatever their numbers."""

    def graph(number: int, text: str) -> dict[str, Any]:
        loader = {"class_type": "VAELoader", "inputs": {"vae_name": [f"t{number}", 0]}}
        return {"1": loader, f"t{number}": {"class_type": "PrimitiveString", "inputs": {"value": text}}}

    entries = [
        from_workflow(name, "VAELoader", graph(number, text))
        for name, number, text in (
            ("a", 1, "ae.safetensors"),
            ("b", 2, "ae.safetensors"),
            ("c", 3, "other.sft"),
        )
    ]
    found = build(entries, Catalogue())

    assert ["a", "c"] == [call.name for call in found.calls]
    assert [()] * 2 == [call.problems for call in found.calls]


@pytest.mark.parametrize("file", ["ae.safetensors", "gone.sft"])
def test_shared_by_workflows(file: str) -> None:
    """A call of several workflows is required if one of them is, and its warm-up can be made."""
    graph = {"1": {"class_type": "VAELoader", "inputs": {"vae_name": file}}}
    entries = [
        replace(from_workflow(name, "VAELoader", graph), required=required)
        for name, required in (("a", False), ("b", True), ("c", False))
    ]
    (only,) = build(entries, Catalogue()).calls

    assert ("a", True) == (only.name, only.entry.required)
