"""Entries become complete loader calls; whatever is wrong with one is found before anything is loaded."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from comfy_preload.core.host import GraphNode
from comfy_preload.core.planning.call import LoaderCall, call_key
from comfy_preload.core.planning.plan import Plan, build
from comfy_preload.core.settings.document import parse
from comfy_preload.core.settings.entry import Entry
from comfy_preload.core.settings.validation import validate
from tests.support.catalogue import FOLDERS, Catalogue


def planned(text: str, catalogue: Catalogue | None = None) -> Plan:
    return build(validate(parse(f"models:\n{text}")).entries, catalogue or Catalogue())


def call(text: str, catalogue: Catalogue | None = None) -> LoaderCall:
    [only] = planned(f"  - {text}", catalogue).calls
    return only


@pytest.mark.parametrize(
    ("text", "inputs", "files"),
    [
        pytest.param(
            "checkpoint: sd15.safetensors",
            {"ckpt_name": "sd15.safetensors"},
            ["checkpoints"],
            id="checkpoint",
        ),
        pytest.param(
            "unet: flux1-dev.safetensors",
            {"unet_name": "flux1-dev.safetensors", "weight_dtype": "default"},
            ["diffusion_models"],
            id="default-filled-in",
        ),
        pytest.param(
            "{unet: flux1-dev.safetensors, weight_dtype: fp8_e5m2}",
            {"unet_name": "flux1-dev.safetensors", "weight_dtype": "fp8_e5m2"},
            ["diffusion_models"],
            id="default-replaced",
        ),
        pytest.param(
            "{clip: clip_l.safetensors, type: sd3}",
            {"clip_name": "clip_l.safetensors", "type": "sd3"},
            ["text_encoders"],
            id="optional-input-left-out",
        ),
        pytest.param(
            "{clip: [clip_l.safetensors, t5xxl_fp16.safetensors], type: flux}",
            {"clip_name1": "clip_l.safetensors", "clip_name2": "t5xxl_fp16.safetensors", "type": "flux"},
            ["text_encoders", "text_encoders"],
            id="two-files",
        ),
        pytest.param("vae: pixel_space", {"vae_name": "pixel_space"}, [], id="no-file"),
    ],
)
def test_call(text: str, inputs: dict[str, object], files: list[str]) -> None:
    """A good entry becomes a call with every required input, and its files."""
    found = call(text)

    assert found.target is not None
    assert (inputs, files, ()) == (found.target.inputs, [f.folder for f in found.files], found.problems)


def test_entry_is_kept() -> None:
    """A call is its entry's: name, importance, device and line."""
    found = call("{vae: ae.safetensors, name: x, required: false, device: ram}")

    assert ("x", "vae", "VAELoader", False, "ram", 2) == (
        found.name,
        found.entry.kind,
        found.entry.loader,
        found.entry.required,
        found.entry.device,
        found.entry.line,
    )


@pytest.mark.parametrize(
    ("text", "code", "message", "hint"),
    [
        pytest.param(
            "loader: UNETLoder",
            "loader_unknown",
            "'UNETLoder' is not among the 11",
            "Did you mean 'UNETLoader'?",
            id="typo",
        ),
        pytest.param(
            "loader: Zz",
            "loader_unknown",
            "'Zz' is not among the 11 node classes",
            "pack that brings it",
            id="unknown",
        ),
        pytest.param(
            "{loader: LoraLoaderModelOnly, inputs: {lora_name: style.safetensors}}",
            "loader_takes_model",
            "needs a MODEL from another node for its input 'model'",
            "Preload the node that provides the MODEL",
            id="takes-model",
        ),
        pytest.param(
            "{unet: flux1-dev.safetensors, weight_dtyp: default}",
            "input_unknown",
            "UNETLoader has no input 'weight_dtyp'; expected one of: unet_name, weight_dtype",
            "Did you mean 'weight_dtype'?",
            id="input-typo",
        ),
        pytest.param(
            "{vae: ae.safetensors, requird: false}",
            "input_unknown",
            "VAELoader has no input 'requird'",
            "Did you mean 'required'?",
            id="key-typo",
        ),
        pytest.param(
            "{vae: ae.safetensors, zzz: 1}",
            "input_unknown",
            "no input 'zzz'; expected one of: vae_name",
            "Remove it.",
            id="input",
        ),
        pytest.param(
            "loader: VAELoader",
            "input_missing",
            "VAELoader needs the input 'vae_name'",
            "Add 'vae_name:'",
            id="missing",
        ),
        pytest.param(
            "{unet: flux1-dev.safetensors, weight_dtype: fp8_e4m3}",
            "value_not_allowed",
            "weight_dtype of UNETLoader is 'fp8_e4m3'; expected one of: default, fp8_e4m3fn,",
            "Did you mean 'fp8_e4m3fn'?",
            id="value-typo",
        ),
        pytest.param(
            "{unet: flux1-dev.safetensors, weight_dtype: 8}",
            "value_not_allowed",
            "is 8; expected",
            "Choose one",
            id="value-number",
        ),
        pytest.param(
            "{clip: clip_l.safetensors, device: ram, type: zz}",
            "value_not_allowed",
            "is 'zz'",
            "Choose one",
            id="value",
        ),
        pytest.param(
            "unet: flux1-dv.safetensors",
            "file_missing",
            "flux1-dv.safetensors is in none of the 2 folders searched for diffusion_models",
            "Nearest: flux1-dev.safetensors",
            id="file-typo",
        ),
        pytest.param(
            "checkpoint: other/sd15.safetensors",
            "file_missing",
            "other/sd15.safetensors is not in the folder",
            "Nearest: sd15",
            id="other-folder",
        ),
        pytest.param(
            "vae: zzz",
            "file_missing",
            "zzz is not in the folder searched for vae",
            "Put it into models/vae.",
            id="file",
        ),
        pytest.param(
            "vae: ../vae/ae.safetensors",
            "file_missing",
            "ae.safetensors is not in the folder",
            "Nearest: ae",
            id="dot-dot",
        ),
        pytest.param(
            "vae: /etc/secret/passwd",
            "file_missing",
            "passwd is not in the folder",
            "Put it into models/vae.",
            id="absolute",
        ),
        pytest.param(
            "loader: BrokenLoader",
            "load_failed",
            "BrokenLoader raised FileNotFoundError: [Errno 2] No such file or directory: 'list.json'",
            "",
            id="class-raises",
        ),
    ],
)
def test_problem(text: str, code: str, message: str, hint: str) -> None:
    """What this ComfyUI lacks or refuses is a problem with what was found, what was expected, and a hint."""
    found = call(text)
    [problem] = found.problems

    assert (code, 2) == (problem.code, problem.line)
    assert () == planned(f"  - {text}").runnable()
    assert message in problem.message
    assert hint in problem.hint
    assert not any(path in str(problem) for path in ("/etc", "/mnt"))


def test_all_at_once() -> None:
    """One entry reports all that is wrong with it, and costs no other entry."""
    plan = planned(
        "  - {unet: a, weight_dtype: b, c: 1}\n  - vae: ae.safetensors\n  - loader: BrokenLoader\n  - vae: "
        "taesd\n"
    )

    assert ["input_unknown", "file_missing", "value_not_allowed"] == [p.code for p in plan.calls[0].problems]
    assert ["ae", "taesd"] == [c.name for c in plan.runnable()]


def test_problems_of_the_settings_stay() -> None:
    """An entry that was wrong in itself is planned as it is, and nothing is looked up for it."""
    found = call("{vae: ae.safetensors, device: tpu}")

    assert (["wrong_value"], "") == ([p.code for p in found.problems], found.entry.loader)


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


def test_order() -> None:
    """Calls keep the order of importance."""
    text = "  - vae: taesd\n  - checkpoint: sd15.safetensors\n  - vae: ae.safetensors\n"

    assert ["taesd", "sd15", "ae"] == [c.name for c in planned(text).calls]


def test_empty_folder() -> None:
    """A folder without any file is searched all the same, and said to be."""
    [problem] = call("checkpoint: sd15.safetensors", Catalogue({**FOLDERS, "checkpoints": ("x",)})).problems

    assert "sd15.safetensors is not in the folder searched for checkpoints" == problem.message
    assert "Put it into models/checkpoints." == problem.hint


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("{unet: flux1-dev.safetensors, weight_dtype: '${SECRET}'}", id="value"),
        pytest.param("{vae: '${SECRET}'}", id="file"),
        pytest.param("{loader: VAELoader, inputs: {vae_name: 'x-${SECRET}'}}", id="input"),
    ],
)
def test_secret(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a variable holds is in no problem; the text in the file is."""
    monkeypatch.setenv("SECRET", "hunter2")
    [problem] = call(text).problems

    assert "hunter2" not in str(problem)
    assert "${SECRET}" in problem.message


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        pytest.param({"b": 1, "a": "x"}, 'nodes.L {"a": "x", "b": 1}', id="order-does-not-matter"),
        pytest.param({}, "nodes.L {}", id="none"),
        pytest.param({"a": True, "b": None}, 'nodes.L {"a": true, "b": null}', id="plain"),
        pytest.param({"a": ["x"]}, 'nodes.L {"a": ["x"]}', id="list"),
        pytest.param({"model": object()}, "", id="object"),
        pytest.param({"a": math.nan}, "", id="nan"),
    ],
)
def test_call_key(arguments: dict[str, object], key: str) -> None:
    """Equal calls have equal keys; a call with anything but plain values has none."""
    assert key == call_key("nodes.L", arguments)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        pytest.param("UNETLoaderMultiGPU", "Is the pack", id="multigpu"),
        pytest.param("CLIPLoaderGGUF", "Is the pack", id="gguf"),
        pytest.param("CheckpointLoaderSimpleDisTorch2MultiGPU", "Is the pack", id="distorch"),
        pytest.param("VAELoaders", "mean 'VAELoader'", id="plural"),
        pytest.param("CheckpointLoader", "mean 'CheckpointLoaderSimple'", id="shorter"),
    ],
)
def test_node_of_a_pack_is_not_a_typo(name: str, hint: str) -> None:
    """A class that a pack makes from one of ComfyUI's is not taken for a misspelling of that."""
    [problem] = call(f"loader: {name}").problems

    assert hint in problem.hint


@pytest.mark.parametrize("value", [r'"SDXL\new.safetensors"', r'"a\boo.safetensors"', r'"\turbo.sft"'])
def test_backslash_that_yaml_took_for_an_escape(value: str) -> None:
    """A name from Windows in double quotes may be valid YAML, and then holds a line break.

    The hint says why.
    """
    [problem] = call(f"checkpoint: {value}").problems

    assert "file_missing" == problem.code
    assert "backslash in double quotes" in problem.hint


def test_packs_that_could_not_be_imported() -> None:
    """They are named where a class is missing, since it may be one of theirs."""
    catalogue = Catalogue()
    catalogue.failed = ("ComfyUI-MultiGPU", "other_pack")

    [missing] = call("loader: UNETLoaderMultiGPU", catalogue).problems
    [typo] = call("loader: UNETLoder", catalogue).problems

    assert "IMPORT FAILED in its log: ComfyUI-MultiGPU, other_pack." in missing.hint
    assert "Did you mean 'UNETLoader'?" == typo.hint


def test_node_of_a_call() -> None:
    """An entry of `models:` stands for the one node of a prompt.

    One of a workflow for that workflow's node.
    """
    given = GraphNode("7", {"7": {"class_type": "VAELoader", "inputs": {}}, "8": {}})
    [entry] = validate(parse("models: [{vae: taesd}]")).entries
    alone, own = (build([one], Catalogue()).calls[0].target for one in (entry, replace(entry, node=given)))

    assert alone is not None
    assert own is not None
    assert {"1": {"class_type": "VAELoader", "inputs": {"vae_name": "taesd"}}} == alone.node.prompt
    assert given == own.node


@pytest.mark.parametrize("in_workflow", [False, True])
def test_loader_that_is_never_the_same(*, in_workflow: bool) -> None:
    """What ComfyUI runs in every prompt cannot be handed out; a workflow that has it is not failed for it."""
    [entry] = validate(
        parse("models: [{loader: RandomLoader, inputs: {ckpt_name: sd15.safetensors}}]")
    ).entries
    [found] = build([replace(entry, node=GraphNode("3", {}) if in_workflow else None)], Catalogue()).calls

    assert (["loader_changes"], None) == ([p.code for p in found.problems], found.target)
    assert found.entry.required is not in_workflow


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


class _Kind(Enum):
    FAST = "fast"


@dataclass
class _Settings:
    blocks: int
    kinds: tuple[_Kind, ...] = (_Kind.FAST,)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        pytest.param({"a": 1, "b": [2]}, {"b": [2], "a": 1}, True, id="mapping"),
        pytest.param([("x.pt", 1.0)], [("x.pt", 1.0)], True, id="list-of-tuples"),
        pytest.param([("x.pt", 1.0)], [("x.pt", 0.5)], False, id="other-strength"),
        pytest.param(_Settings(20), _Settings(20), True, id="dataclass"),
        pytest.param(_Settings(20), _Settings(21), False, id="other-dataclass"),
        pytest.param(SimpleNamespace(a={1, 2}), SimpleNamespace(a={2, 1}), True, id="namespace"),
        pytest.param(Path("a"), Path("b"), False, id="path"),
    ],
)
def test_call_key_of_settings(one: object, other: object, same: bool) -> None:  # noqa: FBT001 — a column of the table
    """Objects that hold settings are compared by what they hold."""
    keys = [call_key("N", {"x": value}) for value in (one, other)]

    assert all(keys)
    assert same is (keys[0] == keys[1])


@pytest.mark.parametrize(
    "value", [object(), [object()], {"x": object()}, _Settings], ids=["object", "list", "mapping", "class"]
)
def test_call_key_of_models(value: object) -> None:
    """What may hold more than settings has no key, unless it is known otherwise."""
    assert "" == call_key("N", {"x": value})
    assert call_key("N", {"x": value}, known=lambda _: "a model") != call_key(
        "N", {}, known=lambda _: "a model"
    )


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
