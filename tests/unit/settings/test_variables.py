"""Variables of the environment in the settings file."""

from __future__ import annotations

import pytest

from comfy_preload.core.settings.document import (
    parse,
)


def test_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """${NAME} is filled in, in values at any depth and more than once; the text as written is kept."""
    monkeypatch.setenv("SIZE", "xl")
    document = parse("a: [{b: 'sd-${SIZE}-${SIZE}.safetensors', c: $SIZE, d: '$${SIZE'}]")

    assert {"b": "sd-xl-xl.safetensors", "c": "$SIZE", "d": "$${SIZE"} == document.data["a"][0]
    assert {("a", 0, "b"): "sd-${SIZE}-${SIZE}.safetensors"} == document.templates


def test_variable_is_not_yaml(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a variable holds is text, whatever it looks like, and is not expanded again."""
    monkeypatch.setenv("TRICK", "}, x: ${TRICK}")

    assert {"a": "}, x: ${TRICK}"} == parse("{a: '${TRICK}'}").data


def test_variable_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that is not set is a problem with the line and the name."""
    monkeypatch.delenv("NOT_SET", raising=False)
    document = parse("models:\n  - checkpoint: ${NOT_SET}")

    [(place, problem)] = document.problems
    assert ("models", 0, "checkpoint") == place
    assert ("env_unset", 2) == (problem.code, problem.line)
    assert "the environment variable NOT_SET is not set" == problem.message


@pytest.mark.parametrize(
    ("text", "password", "expected"),
    [
        pytest.param("redis://:${SECRET}@redis:6379/0", "ab#cd", "redis://:ab%23cd@redis:6379/0", id="hash"),
        pytest.param("redis://:${SECRET}@redis", "a/b?c@d", "redis://:a%2Fb%3Fc%40d@redis", id="others"),
        pytest.param("redis://u:${SECRET}@r", "100%", "redis://u:100%25@r", id="percent"),
        pytest.param("redis://:${SECRET}@r", "ab%23cd", "redis://:ab%23cd@r", id="quoted-already"),
        pytest.param("http://${SECRET}:8188", "a/b", "http://a/b:8188", id="host"),
        pytest.param("${SECRET}", "redis://:a@b/0", "redis://:a@b/0", id="whole-url"),
        pytest.param("a@b-${SECRET}", "x#y", "a@b-x#y", id="no-url"),
    ],
)
def test_variable_in_a_url(text: str, password: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A password from the environment never ends the URL that it stands in."""
    monkeypatch.setenv("SECRET", password)

    assert {"redis": expected} == parse(f"redis: {text}").data
