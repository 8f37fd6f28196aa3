"""Values are stored by position: which widgets a node has decides what a value means."""

from __future__ import annotations

import json
from typing import Any

import pytest

from comfy_preload.core.node_types import accepts, declared
from comfy_preload.core.workflow.reader import parse
from comfy_preload.core.workflow.widgets import filled, first_choice
from tests.support.node_table import NodeTable, file, node


@pytest.mark.parametrize(
    ("kind", "values", "sent"),
    [
        pytest.param(
            "KSampler", [7, "randomize", 20, 8], {"seed": 7, "steps": 20, "cfg": 8}, id="control-declared"
        ),
        pytest.param("OldSeed", [7, "randomize", 20], {"noise_seed": 7, "steps": 20}, id="control-by-name"),
        pytest.param("Picker", ["y", "fixed", "", 3], {"choice": "y", "after": 3}, id="control-of-combo"),
        pytest.param(
            "LoadImage", ["q.png", 4, "image"], {"image": "q.png", "scale": 4}, id="upload-button-last"
        ),
        pytest.param("LoadOutput", ["q.png"], {"image": "q.png [output]"}, id="upload-folder"),
        pytest.param("LoadOutput", ["q.png [temp]"], {"image": "q.png [temp]"}, id="upload-folder-named"),
        pytest.param("LoadOutput", [["q.png", "r.png"]], {"image": "q.png [output]"}, id="upload-list"),
        pytest.param("Forced", [1, 2], {"own": 2}, id="forced-input-stored"),
        pytest.param("Forced", [2], {"own": 2}, id="forced-input-not-stored"),
        pytest.param("Many", [["x", "y"]], {"names": {"__value__": ["x", "y"]}}, id="list"),
        pytest.param(
            "Resize", ["by", 1.5, "fine"], {"mode": "by", "mode.factor": 1.5, "method": "fine"}, id="dynamic"
        ),
        pytest.param(
            "Resize",
            ["to", 3, 4, "fine"],
            {"mode": "to", "mode.width": 3, "mode.height": 4, "method": "fine"},
            id="dynamic-more",
        ),
        pytest.param("Resize", ["odd", "fine"], {"mode": "odd", "method": "fine"}, id="dynamic-unknown"),
        pytest.param(
            "Resize", None, {"mode": "by", "mode.factor": 2, "method": "fast"}, id="dynamic-default"
        ),
        pytest.param("KSampler", None, {"seed": 0, "steps": 20, "cfg": 8}, id="defaults"),
        pytest.param("KSampler", [7], {"seed": 7, "steps": 20, "cfg": 8}, id="too-few"),
        pytest.param(
            "KSampler", [7, "fixed", 20, 8, 9, 9], {"seed": 7, "steps": 20, "cfg": 8}, id="too-many"
        ),
        pytest.param("KSampler", {"steps": 3, "seed": 1}, {"seed": 1, "steps": 3, "cfg": 8}, id="by-name"),
        pytest.param("KSampler", "odd", {"seed": 0, "steps": 20, "cfg": 8}, id="no-list"),
        pytest.param("KSampler", [7, "fixed", 20.0, 8.5], {"seed": 7, "steps": 20, "cfg": 8.5}, id="numbers"),
        pytest.param("CLIPTextEncode", [None], {"text": ""}, id="text-null"),
        pytest.param("CLIPTextEncode", ["a\r\nb"], {"text": "a\nb"}, id="text-lines"),
        pytest.param(
            "CLIPTextEncode", ["a {red|blue} cat // no"], {"text": "a red cat "}, id="dynamic-prompt"
        ),
        pytest.param("PrimitiveString", ["{a|b} // c"], {"value": "{a|b} // c"}, id="no-dynamic-prompt"),
    ],
)
def test_values(kind: str, values: Any, sent: dict[str, Any]) -> None:
    """Each widget gets its value, and what is not a value of the prompt is left out."""
    found = parse(json.dumps(file(node(1, kind, values))), NodeTable()).prompt["1"]["inputs"]

    assert sent == found
    assert [type(v) for v in sent.values()] == [type(found[k]) for k in sent]


def test_custom_combo() -> None:
    """The options of a CustomCombo stand in the file alone, and its index is counted."""
    spec = declared("CustomCombo", {"required": {"choice": ("COMBO", {"options": []})}}, ("STRING", "INT"))
    found = {name: w.to_send() for name, w in filled(spec, ["b", 0, "a", "b", ""]).items()}

    assert {"choice": "b", "index": 1, "option1": "a", "option2": "b", "option3": ""} == found


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("{a|b}", "a"),
        ("x {a|b} y {c|d}", "x a y c"),
        ("{a {b|c}|d}", "a b"),
        ("{a}", "a"),
        ("{|a}", ""),
        (r"\{a|b\}", "{a|b}"),
        (r"{a\|b|c}", "a|b"),
        ("{a|b", "a"),
        ("a}b", "a}b"),
        ("a /* b */ c", "a  c"),
        ("a // b\nc", "a \nc"),
        ("a /* b // c", "a /* b "),
        ("http://x", "http:"),
        ("end\\", "end\\"),
        ("", ""),
    ],
)
def test_dynamic_prompt(text: str, chosen: str) -> None:
    """The first option is chosen, always; comments are cut out."""
    assert chosen == first_choice(text)


@pytest.mark.parametrize(
    "text",
    ["{" * 500_000, "/*" * 500_000, "{a|" * 100_000, "//" * 500_000, "\\" * 1_000_001],
    ids=["braces", "comments", "options", "lines", "escapes"],
)
def test_dynamic_prompt_bombs(text: str) -> None:
    """A prompt made to take long takes no time."""
    assert isinstance(first_choice(text), str)


@pytest.mark.parametrize(
    ("wanted", "offered", "fits"),
    [
        ("MODEL", "MODEL", True),
        ("model", "MODEL", True),
        ("A,B", "B,C", True),
        ("A", "B", False),
        ("*", "B", True),
        ("A", "", True),
    ],
)
def test_accepts(wanted: str, offered: str, fits: bool) -> None:  # noqa: FBT001 — a column of the table
    """Links join types that have a word in common."""
    assert fits is accepts(wanted, offered)
