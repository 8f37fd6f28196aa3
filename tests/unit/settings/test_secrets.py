"""What a variable holds is in no problem; the text in the file is."""

from __future__ import annotations

import pytest

from comfy_preload.core.settings.document import parse
from comfy_preload.core.settings.validation import validate


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("{vae: a, device: '${SECRET}'}", id="device"),
        pytest.param("{vae: a, required: '${SECRET}'}", id="required"),
        pytest.param("{vae: a, name: 'x/${SECRET}'}", id="name"),
        pytest.param("{vae: [1, '${SECRET}']}", id="list"),
        pytest.param("{clip: [a, 5, '${SECRET}']}", id="clip"),
        pytest.param("'${SECRET}'", id="entry"),
        pytest.param("{loader: L, inputs: '${SECRET}'}", id="inputs"),
    ],
)
def test_secret_of_an_entry(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a variable holds is in no problem."""
    monkeypatch.setenv("SECRET", "hunter2")
    [found] = validate(parse(f"models:\n  - {text}")).entries

    assert found.problems
    assert "hunter2" not in repr(found.problems)


@pytest.mark.parametrize("key", ["when", "on_error", "timeout", "models", "unknown"])
def test_secret_of_the_file(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a variable holds is in no problem; the text in the file is."""
    monkeypatch.setenv("SECRET", "hunter2")
    [problem] = validate(parse(f"{key}: ${{SECRET}}")).problems

    assert "hunter2" not in repr(problem)
    assert "unknown" == key or "is '${SECRET}'" in problem.message


def test_secret_name_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name from a variable that is taken is reported as written."""
    monkeypatch.setenv("SECRET", "hunter2")
    _, second = validate(parse("models: [{vae: a, name: hunter2}, {vae: b, name: '${SECRET}'}]")).entries
    [problem] = second.problems

    assert "the name '${SECRET}' is already used by the entry in line 1" == problem.message
