"""The settings file as data with lines; what is not YAML is one problem, never another exception."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfy_preload.core.errors import PreloadError, Problem
from comfy_preload.core.settings.document import (
    MAX_DEPTH,
    MAX_VALUES,
    parse,
)

BOMB = "\n".join(
    [
        "a: &a [1,1,1,1,1,1,1,1,1]",
        *(f"{b}: &{b} [{','.join(9 * [f'*{a}'])}]" for a, b in ["ab", "bc", "cd", "de", "ef"]),
    ]
)


def refused(text: bytes | str) -> Problem:
    with pytest.raises(PreloadError) as caught:
        parse(text)
    return caught.value.problem


@pytest.mark.parametrize(
    ("text", "data"),
    [
        pytest.param("", None, id="empty"),
        pytest.param("# nothing\n", None, id="comment"),
        pytest.param("models:", {"models": None}, id="empty-key"),
        pytest.param("- 1\n- x", [1, "x"], id="list"),
        pytest.param("a: {b: [1, 2.5, true, null]}", {"a": {"b": [1, 2.5, True, None]}}, id="nested"),
        pytest.param("a: &x {k: 1}\nb: *x", {"a": {"k": 1}, "b": {"k": 1}}, id="alias"),
        pytest.param("1: a\ntrue: b", {"1": "a", "true": "b"}, id="keys-are-text"),
        pytest.param("? [a, b]\n: 1", {"[…]": 1}, id="key-is-a-list"),
        pytest.param("name: \ufeffм".encode(), {"name": "\ufeffм"}, id="unicode"),
        pytest.param('"\\ud800": 1', {"?": 1}, id="key-is-no-character"),
    ],
)
def test_data(text: str | bytes, data: object) -> None:
    """YAML gives plain data."""
    assert data == parse(text).data


@pytest.mark.parametrize(
    ("place", "line"),
    [
        pytest.param((), 2, id="document"),
        pytest.param(("models",), 2, id="key"),
        pytest.param(("models", 0), 3, id="entry"),
        pytest.param(("models", 0, "device"), 4, id="value"),
        pytest.param(("models", 1, "clip", 1), 7, id="in-a-list"),
        pytest.param(("models", 1, "type"), 5, id="missing-key-is-its-entry"),
        pytest.param(("nothing", "here"), 2, id="unknown-is-the-document"),
    ],
)
def test_line(place: tuple[str | int, ...], line: int) -> None:
    """Every value knows its line, counted from 1; what is not there has the line of what is around it."""
    text = "# first\nmodels:\n  - checkpoint: a\n    device: gpu\n  - clip:\n      - a\n      - b\n"

    assert line == parse(text).line(place)


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        pytest.param("models:\n\t- checkpoint: a", 2, "cannot start any token", id="tab"),
        pytest.param("a: [1, 2", 1, "expected ',' or ']'", id="unclosed"),
        pytest.param("a: b: c", 1, "mapping values are not allowed here", id="two-colons"),
        pytest.param("a: 1\n---\nb: 2", 2, "but found another document", id="two-documents"),
        pytest.param("a: *nobody", 1, "found undefined alias", id="alias"),
        pytest.param(
            "a: !!python/object/apply:os.system [x]\nb: !!python/name:os.system",
            2,
            "constructor",
            id="python-tag",
        ),
        pytest.param("\n\na: !!int ''", 3, "not a valid int", id="no-int"),
        pytest.param("a: !!float ''", 1, "not a valid float", id="no-float"),
        pytest.param("a: !!bool perhaps", 1, "not a valid bool", id="no-bool"),
        pytest.param("a: !!timestamp x", 1, "not a valid timestamp", id="no-date"),
        pytest.param("a: 2026-02-30", 1, "not a valid timestamp", id="february-30"),
        pytest.param(f"a: {'9' * 5000}", 1, "not a valid int", id="too-many-digits"),
        pytest.param(b"a: caf\xe9", None, "", id="latin-1"),
        pytest.param(b"\xff\xfea", None, "", id="broken-utf-16"),
        pytest.param(b"a: \x00", None, "special characters are not allowed", id="nul"),
    ],
)
def test_not_yaml(text: str | bytes, line: int | None, reason: str) -> None:
    """What YAML refuses is yaml_syntax with the line, where YAML knows it, and YAML's reason."""
    problem = refused(text)

    assert "yaml_syntax" == problem.code
    assert line == problem.line
    assert reason in problem.message


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        pytest.param(r'"SDXL\x.safetensors"', "backslash in double quotes", id="windows-x"),
        pytest.param(r'"SDXL\sd_xl.safetensors"', "backslash in double quotes", id="windows-s"),
        pytest.param(r'"C:\Users\me\a.sft"', "backslash in double quotes", id="windows-drive"),
        pytest.param("[Pony] foo.safetensors", "begins with [", id="brackets"),
        pytest.param("{Pony} foo.safetensors", "begins with [", id="braces"),
        pytest.param("*x.safetensors", "begins with [", id="star"),
        pytest.param("!x.safetensors", "begins with [", id="exclamation"),
        pytest.param("'it's.sft'", "double a '", id="apostrophe"),
        pytest.param("@x.safetensors", "begins with this character", id="at"),
        pytest.param("%x.safetensors", "begins with this character", id="percent"),
        pytest.param("a: b.sft", "contains ': '", id="colon"),
        pytest.param("\tx", "never tabs", id="tab"),
    ],
)
def test_hint_fits_the_cause(value: str, hint: str) -> None:
    """What people write as the name of a file, and what has to be done about it."""
    with pytest.raises(PreloadError) as raised:
        parse(f"models:\n  - checkpoint: {value}\n")

    assert ("yaml_syntax", 2) == (raised.value.problem.code, raised.value.problem.line)
    assert hint in raised.value.problem.hint


@pytest.mark.parametrize(
    ("text", "found"),
    [
        pytest.param(BOMB, f"more than {MAX_VALUES} values once its anchors are expanded", id="anchor-bomb"),
        pytest.param(
            f"a: [{'1,' * MAX_VALUES}]", f"more than {MAX_VALUES} keys and values", id="many-values"
        ),
        pytest.param("[" * (MAX_DEPTH + 2) + "]" * (MAX_DEPTH + 2), "values nested too deep", id="deep"),
        pytest.param("[" * 50_000, "values nested too deep", id="very-deep"),
        pytest.param("a: &x [*x]", "values nested too deep", id="list-in-itself"),
        pytest.param("a: &x {b: *x}", "values nested too deep", id="mapping-in-itself"),
    ],
)
def test_too_large(text: str, found: str) -> None:
    """What would not fit into memory is refused, whatever makes it large."""
    problem = refused(text)

    assert "yaml_too_large" == problem.code
    assert found in problem.message


def test_depth_allowed() -> None:
    """The depth limit itself is allowed."""
    assert parse("[" * MAX_DEPTH + "]" * MAX_DEPTH).data


def test_duplicate_key() -> None:
    """The first of two equal keys counts; the second is a problem that names both lines."""
    document = parse("when: off\n\nwhen: startup\n")

    assert {"when": False} == document.data
    [(place, problem)] = document.problems
    assert ("when",) == place
    assert ("duplicate_key", 3) == (problem.code, problem.line)
    assert "duplicate key 'when'; first defined on line 1" == problem.message


@given(st.text() | st.binary() | st.text(alphabet="abn:-[]{}&*!?|>'\"%@`#,. \n\t<=~0123456789_xoe"))
def test_any_text(text: str | bytes) -> None:
    """Whatever the text, there is a document or one problem."""
    try:
        document = parse(text)
    except PreloadError as error:
        assert error.problem.code in {"yaml_syntax", "yaml_too_large"}  # noqa: PT017 — raised or not, as the text is
    else:
        assert document.line(()) is not None or document.data is None


@given(
    st.sampled_from(["int", "float", "bool", "null", "timestamp", "binary", "str", "set", "omap", "pairs"]),
    st.text(),
)
def test_any_tagged_value(tag: str, text: str) -> None:
    """A tag that does not fit its value is a problem as well."""
    try:
        parse(f"a: !!{tag} {text!r}")
    except PreloadError as error:
        assert "yaml_syntax" == error.problem.code  # noqa: PT017 — raised or not, as the value is
