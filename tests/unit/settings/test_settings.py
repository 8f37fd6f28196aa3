"""The settings file as typed values: defaults, shorthands, names, variables."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from comfy_preload.core.errors import PreloadError, Problem
from comfy_preload.core.settings.document import Document, parse
from comfy_preload.core.settings.entry import Entry
from comfy_preload.core.settings.validation import Settings, validate


def settled(text: str) -> Settings:
    return validate(parse(text))


def entry(text: str) -> Entry:
    """The only entry of a file that holds only it."""
    [only] = settled(f"models:\n  - {text}").entries
    return only


def only(problems: tuple[Problem, ...]) -> Problem:
    [problem] = problems
    return problem


def test_defaults() -> None:
    """An empty file means: nothing to preload, and every key at its default."""
    settings = validate(Document(None))

    assert ("startup", "unready", 600) == (
        settings.options.when,
        settings.options.on_error,
        settings.options.timeout,
    )
    assert ((), ()) == (settings.entries, settings.problems)


def test_entry_defaults() -> None:
    """An entry is required, goes to the GPU, has its file's name and knows its line."""
    assert Entry(
        "sd15", "checkpoint", "CheckpointLoaderSimple", {"ckpt_name": "sd15.safetensors"}, line=2
    ) == entry("checkpoint: sd15.safetensors")


@pytest.mark.parametrize(
    ("text", "loader", "inputs"),
    [
        pytest.param(
            "checkpoint: a.safetensors",
            "CheckpointLoaderSimple",
            {"ckpt_name": "a.safetensors"},
            id="checkpoint",
        ),
        pytest.param(
            "{unet: a.sft, weight_dtype: fp8_e4m3fn}",
            "UNETLoader",
            {"unet_name": "a.sft", "weight_dtype": "fp8_e4m3fn"},
            id="unet",
        ),
        pytest.param("{clip: a, type: sd3}", "CLIPLoader", {"clip_name": "a", "type": "sd3"}, id="clip"),
        pytest.param("clip: [a]", "CLIPLoader", {"clip_name": "a"}, id="clip-list-of-one"),
        pytest.param("clip: [a, b]", "DualCLIPLoader", {"clip_name1": "a", "clip_name2": "b"}, id="clip-2"),
        pytest.param(
            "clip: [a, b, c]",
            "TripleCLIPLoader",
            {f"clip_name{i}": n for i, n in enumerate("abc", 1)},
            id="clip-3",
        ),
        pytest.param(
            "clip: [a, b, c, d]",
            "QuadrupleCLIPLoader",
            {f"clip_name{i}": n for i, n in enumerate("abcd", 1)},
            id="clip-4",
        ),
        pytest.param("vae: taesd", "VAELoader", {"vae_name": "taesd"}, id="vae"),
        pytest.param("loader: AnyLoader", "AnyLoader", {}, id="loader"),
        pytest.param(
            "{loader: L, inputs: {a: 1, b: 2.5, c: true, d: null}}",
            "L",
            {"a": 1, "b": 2.5, "c": True, "d": None},
            id="inputs",
        ),
    ],
)
def test_shorthand(text: str, loader: str, inputs: dict[str, Any]) -> None:
    """A shorthand stands for a loader node and its inputs; values keep their types."""
    found = entry(text)

    assert (loader, inputs, ()) == (found.loader, found.inputs, found.problems)
    assert [type(v) for v in inputs.values()] == [type(v) for v in found.inputs.values()]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        pytest.param("checkpoint: sd_xl_base_1.0.safetensors", "sd_xl_base_1.0", id="stem"),
        pytest.param("checkpoint: sdxl/turbo/base.safetensors", "base", id="folder"),
        pytest.param(r"checkpoint: sdxl\base.safetensors", "base", id="windows-folder"),
        pytest.param("clip: [clip_l.safetensors, t5.safetensors]", "clip_l+t5", id="two-files"),
        pytest.param("vae: taesd", "taesd", id="no-ending"),
        pytest.param("loader: AnyLoader", "AnyLoader", id="loader-without-file"),
        pytest.param(
            "{loader: G, inputs: {unet_name: flux-Q4.gguf, n: 1}}", "flux-Q4", id="loader-with-file"
        ),
        pytest.param("{vae: a.safetensors, name: 模型 50%}", "模型 50%", id="chosen"),
    ],
)
def test_name(text: str, name: str) -> None:
    """An entry has the name it is given, else its files' names without folder and ending."""
    assert name == entry(text).name


def test_default_names_are_numbered() -> None:
    """Equal default names get a number, in the file's order; chosen names are never changed."""
    text = (
        "models: [{vae: a/x.pt}, {vae: b/x.pt}, {vae: c.pt, name: x}, {vae: d.pt, name: x-2}, {vae: e/x.pt}]"
    )

    assert ["x-3", "x-4", "x", "x-2", "x-5"] == [e.name for e in settled(text).entries]


def test_chosen_names_clash() -> None:
    """The same name chosen twice is a problem of the second entry, and both can be distinguished."""
    first, second = settled("models:\n  - vae: a\n    name: x\n  - vae: b\n    name: x\n").entries

    assert ("x", ()) == (first.name, first.problems)
    assert "x-2" == second.name
    assert "the name 'x' is already used by the entry in line 2" == only(second.problems).message
    assert ("name_taken", 4) == (only(second.problems).code, only(second.problems).line)


def test_reserved_name() -> None:
    """`preload.yaml` is the name of the file's own problems."""
    problem = only(entry("{vae: a, name: preload.yaml}").problems)

    assert "the name 'preload.yaml' is already used by the settings file itself" == problem.message


@pytest.mark.parametrize("text", ["off", "'off'", "Off", "no", "false"])
def test_off(text: str) -> None:
    """YAML reads a bare `off` as false; it still means off."""
    assert "off" == settled(f"when: {text}").options.when


@pytest.mark.parametrize(
    ("text", "required"),
    [
        pytest.param("{checkpoint: 5}", True, id="default"),
        pytest.param("{checkpoint: 5, required: false}", False, id="optional"),
        pytest.param("{checkpoint: 5, required: maybe}", True, id="unclear"),
    ],
)
def test_bad_entry_required(text: str, required: bool) -> None:  # noqa: FBT001 — a column of the table
    """A bad entry counts as required unless it clearly says not to."""
    assert required is entry(text).required


@pytest.mark.parametrize(
    ("text", "name"),
    [
        pytest.param("{checkpoint: dir/a.safetensors, device: tpu}", "a", id="file"),
        pytest.param("{checkpoint: a, name: x, device: tpu}", "x", id="chosen"),
        pytest.param("{vae: a.pt, name: b/c}", "a", id="refused-name"),
        pytest.param("{}", "models[0]", id="nothing"),
        pytest.param("{checkpoint: /, device: tpu}", "_", id="slash"),
        pytest.param(f"checkpoint: {'x' * 5000}", "x" * 200, id="long"),
    ],
)
def test_bad_entry_name(text: str, name: str) -> None:
    """A bad entry has a name to be reported under, as near to the intended one as can be, without '/'."""
    assert name == entry(text).name


def test_variable_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that is set becomes the value, and the entry knows what may be shown for it."""
    monkeypatch.setenv("MODEL", "sdxl")
    found = entry("{loader: L, inputs: {file: '${MODEL}.safetensors'}}")

    assert ({"file": "sdxl.safetensors"}, "sdxl") == (found.inputs, found.name)
    assert {"sdxl.safetensors": "${MODEL}.safetensors"} == found.written


_scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.dates()
_words = st.sampled_from(
    [
        "when",
        "on_error",
        "timeout",
        "models",
        "checkpoint",
        "unet",
        "clip",
        "vae",
        "loader",
        "inputs",
        "name",
        "required",
        "device",
        "type",
    ]
)
_trees = st.recursive(
    _scalars,
    lambda c: st.lists(c, max_size=4) | st.dictionaries(_words | st.text(), c, max_size=5),
    max_leaves=30,
)


@given(
    _trees
    | st.fixed_dictionaries({"models": st.lists(st.dictionaries(_words, _trees, max_size=4), max_size=4)})
)
def test_any_data(tree: Any) -> None:
    """Whatever a YAML file holds, there are settings.

    Each entry has a name of its own and problems have lines.
    """
    try:
        document = parse(yaml.safe_dump(tree, allow_unicode=True))
    except PreloadError:
        return
    settings = validate(document)

    names = [e.name for e in settings.entries]
    assert len(names) == len(set(names))
    assert all(p.line for e in settings.entries for p in e.problems)


@given(_trees)
def test_data_without_lines(tree: Any) -> None:
    """A document made by hand has no lines; that is not a reason to fail."""
    validate(Document(tree))
