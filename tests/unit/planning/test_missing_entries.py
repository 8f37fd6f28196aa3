"""Lines put into the settings file: where they go, what stays, and when the file is left alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from comfy_preload.core.errors import PreloadError
from comfy_preload.core.planning.missing_entries import entries, lines_for
from comfy_preload.core.settings.edit import add, inserted, tag_of
from tests.support.node_table import NodeTable

ITEM = "- vae: new.safetensors\n  device: ram\n"
GRAPH = {
    "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "a.ckpt"}},
    "2": {"class_type": "UNETLoader", "inputs": {"unet_name": "a.sft", "weight_dtype": "default"}},
}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "models:\n  - vae: new.safetensors\n    device: ram\n"),
        ("# only a comment\n", "# only a comment\nmodels:\n  - vae: new.safetensors\n    device: ram\n"),
        ("when: off", "when: off\nmodels:\n  - vae: new.safetensors\n    device: ram\n"),
        ("models:\nwhen: off\n", "models:\n  - vae: new.safetensors\n    device: ram\nwhen: off\n"),
        (
            "models:\n  # - vae: a\n\nx: 1\n",
            "models:\n  - vae: new.safetensors\n    device: ram\n  # - vae: a\n\nx: 1\n",
        ),
        ("models: []  # none\nx: 1\n", "models:  # none\n  - vae: new.safetensors\n    device: ram\nx: 1\n"),
        ("models: ~\n", "models:\n  - vae: new.safetensors\n    device: ram\n"),
        (
            "models:\n- vae: a   # mine\n# behind\n\nx: 1 # y\n",
            "models:\n- vae: a   # mine\n- vae: new.safetensors\n  device: ram\n# behind\n\nx: 1 # y\n",
        ),
        (
            "models:\n    - loader: L\n      inputs: {a: 1,\n         b: 2}\n    # end\n",
            (
                "models:\n    - loader: L\n      inputs: {a: 1,\n         b: 2}\n"
                "    - vae: new.safetensors\n      device: ram\n    # end\n"
            ),
        ),
        (
            "models:\n  - clip:\n      - a\n      - b\n    type: sd3\nworkflows:\n  - path: x\n",
            (
                "models:\n  - clip:\n      - a\n      - b\n    type: sd3\n"
                "  - vae: new.safetensors\n    device: ram\nworkflows:\n  - path: x\n"
            ),
        ),
    ],
)
def test_inserted(before: str, after: str) -> None:
    """Behind the last entry, at its column; comments and order stay."""
    assert after == inserted(before, ITEM)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("models: [{vae: a}]\n", "settings_not_written"),
        ("- models\n", "settings_not_written"),
        ("models: {a: 1}\n", "settings_not_written"),
        ("models: word\n", "settings_not_written"),
        ("models: [\n", "yaml_syntax"),
        ("{models: }\n", "settings_not_written"),
    ],
)
def test_left_alone(text: str, code: str) -> None:
    """What cannot be done by adding lines is not done."""
    with pytest.raises(PreloadError) as raised:
        inserted(text, ITEM)
    assert code == raised.value.problem.code


values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text("ab: #-\n'é", max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text("abc", min_size=1, max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(deadline=None, max_examples=200, derandomize=True)
@given(
    models=st.lists(values, max_size=3),
    more=st.dictionaries(st.sampled_from(["when", "x", "z"]), values),
    flow=st.sampled_from([None, False]),
)
def test_whatever_the_file_holds(models: list[object], more: dict[str, object], flow: bool | None) -> None:  # noqa: FBT001 — a value drawn
    """Either the entries are the old ones and the new one, and the rest is the same, or nothing is done."""
    text = yaml.safe_dump({**more, "models": models}, default_flow_style=flow, allow_unicode=True)
    try:
        after = inserted(text, ITEM)
    except PreloadError:
        return
    assert {**more, "models": [*models, *yaml.safe_load(ITEM)]} == yaml.safe_load(after)


def test_only_what_is_not_listed() -> None:
    """However it is listed: by shorthand, or with its loader's name."""
    listed = "models:\n  - loader: CheckpointLoaderSimple\n    inputs: {ckpt_name: a.ckpt}\n"
    assert "- unet: a.sft\n" == lines_for(GRAPH, NodeTable(), listed)
    assert "" == lines_for(GRAPH, NodeTable(), f"{listed}  - unet: a.sft\n")
    assert "- checkpoint: a.ckpt\n- unet: a.sft\n" == lines_for(GRAPH, NodeTable())


def test_add(tmp_path: Path) -> None:
    """The file is replaced whole, keeps its mode, and a link to it stays a link.

    Comments among the lines are not written.
    """
    file, link = tmp_path / "real.yaml", tmp_path / "preload.yaml"
    file.write_text("# mine\nmodels:\n  - vae: a\n", encoding="utf-8")
    file.chmod(0o640)
    link.symlink_to(file)
    text = link.read_text(encoding="utf-8")
    after = add(link, text, f"# X is left out\n{ITEM}", tag_of(text))
    assert after == link.read_text(encoding="utf-8")
    assert "# mine\nmodels:\n  - vae: a\n  - vae: new.safetensors\n    device: ram\n" == file.read_text(
        encoding="utf-8"
    )
    assert (True, 0o640) == (link.is_symlink(), file.stat().st_mode & 0o777)
    assert ["preload.yaml", "real.yaml"] == sorted(path.name for path in tmp_path.iterdir())


def test_changed_meanwhile(tmp_path: Path) -> None:
    file = tmp_path / "preload.yaml"
    file.write_text("when: off\n", encoding="utf-8")
    with pytest.raises(PreloadError) as raised:
        entries(file, GRAPH, NodeTable(), tag_of(""))
    assert "settings_changed" == raised.value.problem.code
    assert "when: off\n" == file.read_text(encoding="utf-8")


@pytest.mark.skipif(os.name != "posix", reason="uses a folder that is not there, as POSIX reports it")
def test_not_writable(tmp_path: Path) -> None:
    file = tmp_path / "gone" / "preload.yaml"
    with pytest.raises(PreloadError) as raised:
        add(file, "", ITEM, tag_of(""))
    assert "settings_not_written" == raised.value.problem.code
    assert str(tmp_path) not in str(raised.value.problem)
