"""Every mistake in the settings is found at once, with its line, what was found and what was expected."""

from __future__ import annotations

import pytest

from comfy_preload.core.errors import Problem
from comfy_preload.core.settings.document import parse
from comfy_preload.core.settings.entry import Entry
from comfy_preload.core.settings.validation import MAX_ENTRIES, Settings, validate


def settled(text: str) -> Settings:
    return validate(parse(text))


def entry(text: str) -> Entry:
    """The only entry of a file that holds only it."""
    [only] = settled(f"models:\n  - {text}").entries
    return only


def only(problems: tuple[Problem, ...]) -> Problem:
    [problem] = problems
    return problem


@pytest.mark.parametrize(
    ("text", "line", "message", "hint"),
    [
        pytest.param(
            "timeout: soon", 1, "timeout is 'soon'; expected a valid number", "docs/settings.md", id="number"
        ),
        pytest.param("timeout: 0", 1, "timeout is 0; expected greater than 0", "docs/settings.md", id="zero"),
        pytest.param(
            "timeout: -1", 1, "timeout is -1; expected greater than 0", "docs/settings.md", id="negative"
        ),
        pytest.param(
            "timeout: .inf",
            1,
            "timeout is inf; expected less than or equal to 86400",
            "docs/settings.md",
            id="infinite",
        ),
        pytest.param(
            "timeout: [1]",
            1,
            "timeout is a list of 1 values; expected a valid number",
            "docs/settings.md",
            id="list",
        ),
        pytest.param(
            "\nwhen: startupp",
            2,
            "when is 'startupp'; expected 'startup'",
            "Did you mean 'startup'?",
            id="when",
        ),
        pytest.param(
            "when: true",
            1,
            "when is True; expected 'startup', 'background' or 'off'",
            "docs/settings.md",
            id="when-true",
        ),
        pytest.param(
            "on_error: Exit", 1, "on_error is 'Exit'; expected", "Did you mean 'exit'?", id="on_error"
        ),
        pytest.param(
            "timeuot: 5",
            1,
            "unknown key 'timeuot'; expected one of: when, on_error, timeout, ",
            "'timeout'?",
            id="typo",
        ),
        pytest.param(
            "snapshot: {provider: file}",
            1,
            "snapshot is a mapping with 1 keys; expected a mapping with the key path beside provider",
            "docs/settings.md",
            id="snapshot-file",
        ),
        pytest.param(
            "snapshot: {provider: command, command: []}",
            1,
            "expected a mapping with the key command beside provider",
            "docs/settings.md",
            id="snapshot-command",
        ),
        pytest.param(
            "snapshot:\n  when: load",
            2,
            "when is 'load'; expected 'imports', 'loaded' or 'warm'",
            "Did you mean 'loaded'?",
            id="snapshot-when",
        ),
        pytest.param(
            "snapshot: {wen: loaded}",
            1,
            "unknown key 'wen'; expected one of: when, provider, path",
            "Did you mean 'when'?",
            id="snapshot-key",
        ),
        pytest.param(
            "snapshot: loaded", 1, "snapshot is 'loaded'; expected", "docs/settings.md", id="snapshot-text"
        ),
        pytest.param("zzz: 5", 1, "unknown key 'zzz'", "Remove it.", id="unknown"),
        pytest.param("model: []", 1, "unknown key 'model'", "Did you mean 'models'?", id="model"),
        pytest.param(
            "models: {checkpoint: a}",
            1,
            "models is a mapping with 1 keys; expected a list",
            "'- '",
            id="models-mapping",
        ),
        pytest.param(
            "models: a.safetensors",
            1,
            "models is 'a.safetensors'; expected a list of entries",
            "'- '",
            id="models-text",
        ),
        pytest.param("? [a]\n: 1", 1, "unknown key '[…]'", "Remove it.", id="complex-key"),
        pytest.param(
            "when: off\nwhen: off",
            2,
            "duplicate key 'when'; first defined on line 1",
            "Keep one",
            id="duplicate",
        ),
        pytest.param(
            "- checkpoint: a",
            1,
            "the settings file holds a list of 1 values",
            "under the key 'models:'",
            id="list-document",
        ),
        pytest.param(
            "a.safetensors", 1, "holds a single value (str)", "under the key 'models:'", id="text-document"
        ),
    ],
)
def test_file_problem(text: str, line: int, message: str, hint: str) -> None:
    """A mistake outside the entries is the file's, with line, value found, value wanted and a hint."""
    settings = settled(text)
    problem = only(settings.problems)

    assert line == problem.line
    assert message in problem.message
    assert hint in problem.hint
    assert "startup" == settings.options.when or "duplicate_key" == problem.code
    assert 600 == settings.options.timeout


@pytest.mark.parametrize(
    ("text", "code", "message", "hint"),
    [
        pytest.param(
            "{}",
            "entry_unclear",
            "an entry has a mapping with 0 keys",
            "an entry ('- ') of its own",
            id="empty",
        ),
        pytest.param("", "entry_unclear", "an entry has nothing", "of its own", id="null"),
        pytest.param(
            "a.safetensors", "entry_unclear", "an entry has a single value (str)", "of its own", id="text"
        ),
        pytest.param("[a, b]", "entry_unclear", "an entry has a list of 2 values", "of its own", id="list"),
        pytest.param("{chekpoint: a}", "entry_unclear", "only the keys: chekpoint", "of its own", id="typo"),
        pytest.param(
            "{checkpoint: a, vae: b}", "entry_unclear", "checkpoint and vae", "of its own", id="two"
        ),
        pytest.param(
            "checkpoint: 5", "wrong_value", "checkpoint is 5; expected a valid string", "docs/", id="number"
        ),
        pytest.param("checkpoint: ''", "wrong_value", "checkpoint is ''; expected", "docs/", id="no-file"),
        pytest.param(
            "checkpoint:",
            "wrong_value",
            "checkpoint is None; expected a valid string",
            "docs/",
            id="no-value",
        ),
        pytest.param("clip: []", "wrong_value", "clip is a list of 0 values", "docs/", id="no-clip"),
        pytest.param(
            "clip: [a, b, c, d, e]", "wrong_value", "clip is a list of 5 values", "docs/", id="five-clips"
        ),
        pytest.param(
            "{vae: a, device: cpu}",
            "wrong_value",
            "device is 'cpu'; expected 'gpu' or 'ram'",
            "",
            id="device",
        ),
        pytest.param(
            "{vae: a, device: GPU}", "wrong_value", "device is 'GPU'", "Did you mean 'gpu'?", id="device-case"
        ),
        pytest.param(
            "{vae: a, required: maybe}",
            "wrong_value",
            "required is 'maybe'; expected a valid boolean",
            "docs/",
            id="required",
        ),
        pytest.param(
            "{vae: a, name: a/b}",
            "wrong_value",
            "expected a text without '/' and control characters",
            "docs/",
            id="slash",
        ),
        pytest.param(
            '{vae: a, name: "a\\nb"}',
            "wrong_value",
            "expected a text without '/' and control",
            "docs/",
            id="newline",
        ),
        pytest.param(
            "{vae: a, type: [1]}",
            "wrong_value",
            "type is a list of 1 values; expected a valid string or",
            "docs/",
            id="input",
        ),
        pytest.param(
            "{loader: L, input: {}}",
            "unknown_key",
            "unknown key 'input'",
            "Did you mean 'inputs'?",
            id="unknown-key",
        ),
        pytest.param(
            "{loader: L, inputs: [a]}",
            "wrong_value",
            "inputs is a list of 1 values",
            "docs/",
            id="inputs-list",
        ),
        pytest.param(
            "{loader: L, inputs: {a: {b: 1}}}",
            "wrong_value",
            "a is a mapping with 1 keys",
            "docs/",
            id="nested-input",
        ),
        pytest.param("{vae: a, vae: b}", "duplicate_key", "duplicate key 'vae'", "Keep one", id="duplicate"),
        pytest.param(
            "vae: ${NOT_SET_ANYWHERE}", "env_unset", "NOT_SET_ANYWHERE is not set", "Set it", id="env"
        ),
        pytest.param(
            "{vae: a, name: 2026-11-22}", "wrong_value", "name is datetime.date", "docs/", id="date"
        ),
    ],
)
def test_entry_problem(text: str, code: str, message: str, hint: str) -> None:
    """A mistake in an entry is that entry's, and the file as a whole is in order."""
    settings = settled(f"models:\n  - vae: good\n  - {text}\n  - vae: fine")
    good, bad, fine = settings.entries

    assert ((), (), ()) == (settings.problems, good.problems, fine.problems)
    problem = only(bad.problems)
    assert (code, 3) == (problem.code, problem.line)
    assert message in problem.message
    assert hint in problem.hint


def test_all_at_once() -> None:
    """One reading reports everything, in the file's order, each under its own line."""
    settings = settled(
        "when: soon\ntimeout: x\nfoo: 1\nmodels:\n  - checkpoint: 5\n    device: tpu\n    required: 9\n  - "
        "{}\n"
    )

    assert [1, 2, 3] == [p.line for p in settings.problems]
    assert [5, 6, 7] == [p.line for p in settings.entries[0].problems]
    assert [8] == [p.line for p in settings.entries[1].problems]


def test_good_options_stay() -> None:
    """A bad key falls back to its default and costs no other key."""
    settings = settled("when: sometimes\ntimeout: 5\non_error: serve\nnonsense: 1")

    assert ("startup", 5, "serve") == (
        settings.options.when,
        settings.options.timeout,
        settings.options.on_error,
    )
    assert 2 == len(settings.problems)


def test_ten_thousand_entries() -> None:
    """The first thousand are used; the rest is one problem, with the line where it begins."""
    settings = settled("models:\n" + "  - vae: a\n" * 10_000)

    assert MAX_ENTRIES == len(settings.entries) == len({e.name for e in settings.entries})
    problem = only(settings.problems)
    assert ("too_many_entries", MAX_ENTRIES + 2) == (problem.code, problem.line)
    assert "'models' lists 10000 entries; the first 1000 are used" == problem.message


def test_many_keys_are_not_listed() -> None:
    """An entry with a thousand keys does not make a message of a thousand words."""
    text = "{" + ", ".join(f"key{i}: 1" for i in range(1000)) + "}"

    assert len(only(entry(text).problems).message) < 300
