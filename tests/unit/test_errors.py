"""The table of errors and the code that uses it are equal, and no message shows a path."""

from __future__ import annotations

import ast
import pickle
import string
from collections.abc import Iterator
from pathlib import Path

import pytest

from comfy_preload.core.errors import ERRORS, PreloadError, failure, is_unrecoverable, problem
from comfy_preload.core.text import did_you_mean, nearest, without_paths
from tools.host import ROOT

SOURCES = [p for folder in ("comfy_preload", "nodes") for p in (ROOT / folder).rglob("*.py")]


def calls() -> Iterator[tuple[str, set[str], str]]:
    """(code, values given, place) of each `problem("…")` in the source; `**values` gives '**'."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "problem":
                code = node.args[0]
                assert isinstance(code, ast.Constant), (
                    f"{path.name}:{node.lineno}: the code must be written out"
                )
                yield str(code.value), {k.arg or "**" for k in node.keywords}, f"{path.name}:{node.lineno}"


def places(code: str) -> set[str]:
    kind = ERRORS[code]
    return {
        name
        for text in (kind.sentence, kind.hint)
        for _, name, _, _ in string.Formatter().parse(text)
        if name
    }


def test_codes_are_used_and_known() -> None:
    """Every code in the table is used, and every code used is in the table."""
    assert sorted(ERRORS) == sorted({code for code, _, _ in calls()})


@pytest.mark.parametrize(
    ("code", "given"), [pytest.param(c, g, id=f"{place}-{c}") for c, g, place in calls()]
)
def test_values(code: str, given: set[str]) -> None:
    """A problem is made with exactly the values that its sentence and hint have places for."""
    written = given - {"line", "**"}

    assert written <= places(code)
    assert "**" in given or written == places(code)


@pytest.mark.parametrize("code", ERRORS)
def test_texts(code: str) -> None:
    """Every row formats, says what it means in a sentence, and never ends a message with a full stop."""
    made = problem(code, line=7, **dict.fromkeys(places(code), "VALUE"))

    assert made.message
    assert made.hint
    assert not made.message.endswith(".")
    assert ERRORS[code].meaning.endswith(".")
    assert f"preload.yaml:7: {made.message}. {made.hint} [{code}]" == str(made)


def test_braces_in_values() -> None:
    """A value is never taken for a template."""
    assert "{x} is empty" == problem("file_empty", file="{x}").message


def test_missing_value() -> None:
    """A value left out is a fault of the caller."""
    with pytest.raises(KeyError):
        problem("file_empty")


def test_exception() -> None:
    """The exception carries the problem and reads like it."""
    made = problem("file_empty", file="x", line=3)

    assert (made, str(made)) == (PreloadError(made).problem, str(PreloadError(made)))


@pytest.mark.parametrize(
    ("text", "left"),
    [
        pytest.param(
            "cannot open /home/ann/models/a.safetensors today", "cannot open a.safetensors today", id="posix"
        ),
        pytest.param(
            "[Errno 2] No such file: '/home/ann/a.ckpt'", "[Errno 2] No such file: 'a.ckpt'", id="quoted"
        ),
        pytest.param(
            "No such file: '/mnt/my models/v 2/a.ckpt'", "No such file: 'a.ckpt'", id="quoted-with-spaces"
        ),
        pytest.param("in /models", "in models", id="one-step"),
        pytest.param("in /home/ann/", "in ann", id="ends-with-slash"),
        pytest.param("~/models/a.ckpt and ~ann/b/c", "a.ckpt and c", id="home"),
        pytest.param(r"C:\Users\ann\a.ckpt is gone", "a.ckpt is gone", id="windows"),
        pytest.param(
            "No such file: " + repr(r"C:\Users\ann\my models\a.ckpt"),
            "No such file: 'a.ckpt'",
            id="windows-repr",
        ),
        pytest.param("D:/models/a.ckpt", "a.ckpt", id="windows-slashes"),
        pytest.param(r"\\nas\share\a.ckpt", "a.ckpt", id="windows-share"),
        pytest.param("a:/x/y/b.ckpt:/z/c", "b.ckpt:c", id="several"),
        pytest.param('File "/opt/ComfyUI/nodes.py", line 5', 'File "nodes.py", line 5', id="traceback"),
        pytest.param("first\n/home/ann/second", "first", id="first-line"),
        pytest.param("\n\n  /home/ann/x  ", "x", id="blank-lines"),
        pytest.param("", "", id="empty"),
        pytest.param(
            "sdxl/base.safetensors: 1/2 of it", "sdxl/base.safetensors: 1/2 of it", id="relative-name-stays"
        ),
        pytest.param("x" * 1000, "x" * 300, id="long"),
    ],
)
def test_without_paths(text: str, left: str) -> None:
    """Of an absolute path only the last part is left."""
    assert left == without_paths(text)


@pytest.mark.parametrize(
    "text", ["'/" + "a" * 1_000_000, "/a" * 500_000, "'/a" * 300_000], ids=["quote", "path", "quotes"]
)
def test_long_words(text: str) -> None:
    """A loader that says a megabyte costs no time."""
    assert len(without_paths(text)) <= 300


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        pytest.param(ValueError("bad shape"), "load_failed", "L raised ValueError: bad shape", id="error"),
        pytest.param(
            OSError(2, "gone", "/mnt/x y/a.ckpt"),
            "load_failed",
            "L raised FileNotFoundError: [Errno 2] gone: 'a.ckpt'",
            id="os",
        ),
        pytest.param(
            pickle.UnpicklingError("os.system"),
            "load_refused",
            "L refused the file: it holds more than weights",
            id="pickle",
        ),
        pytest.param(
            SystemExit(3), "load_exit", "L tried to end the process (3); this was prevented", id="exit"
        ),
        pytest.param(
            SystemExit(),
            "load_exit",
            "L tried to end the process (no reason); this was prevented",
            id="exit-silently",
        ),
        pytest.param(RuntimeError("a\nb"), "load_failed", "L raised RuntimeError: a", id="several-lines"),
        pytest.param(KeyError(), "load_failed", "L raised KeyError: ", id="no-words"),
    ],
)
def test_failure(error: BaseException, code: str, message: str) -> None:
    """What a loader raises becomes a problem with its type and its first line."""
    made = failure("L", error)

    assert (code, message) == (made.code, made.message)


@pytest.mark.parametrize(
    "words",
    [
        pytest.param("cannot read {file} now", id="file"),
        pytest.param("cannot list {parent} now", id="folder"),
        pytest.param("{file}:{file}", id="twice"),
    ],
)
def test_own_files(words: str) -> None:
    """Paths of the call's own files are cut out even where spaces hide their ends."""
    file = Path("/srv/secret folder/my models/a b.ckpt")
    made = failure("L", RuntimeError(words.format(file=file, parent=file.parent)), [file])

    assert "secret" not in made.message
    assert "/" not in made.message


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        pytest.param("unetloader", "Did you mean 'UNETLoader'?", id="case"),
        pytest.param("VAELoder", "Did you mean 'VAELoader'?", id="typo"),
        pytest.param("zzz", "Otherwise.", id="nothing-near"),
        pytest.param(5, "Otherwise.", id="no-text"),
        pytest.param("", "Otherwise.", id="empty"),
    ],
)
def test_did_you_mean(word: object, expected: str) -> None:
    """The nearest known word is asked for, else something else is said."""
    assert expected == did_you_mean(word, ["UNETLoader", "VAELoader"], "Otherwise.")


def test_nearest() -> None:
    """The best comes first, and no more than asked for."""
    assert ["flux1-dev.sft", "flux1-def.sft"] == nearest(
        "Flux1-dev.sft", ["x", "flux1-def.sft", "flux1-dev.sft", "flux2.sft"], 2
    )


@pytest.mark.parametrize(
    ("words", "final"),
    [
        ("CUDA error: an illegal memory access was encountered\nCUDA kernel errors might be …", True),
        ("HIP error: unspecified launch failure", True),
        ("level_zero backend failed with error: 20 (UR_RESULT_ERROR_DEVICE_LOST)", True),
        ("Native API failed. level_zero backend failed with error: 20 (UR_RESULT_ERROR_DEVICE_LOST)", True),
        ("The Inner error is reported as above.\nNPU function error: rtStream, error code is 507015", True),
        ("CUDA error: out of memory", False),
        ("HIP error: out of memory", False),
        ("level_zero backend failed with error: 39 (UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY)", False),
        ("NPU function error: aclrtMalloc, error code is 207001", False),
        ("NPU out of memory. Tried to allocate 2.00 GiB", False),
        ("a prompt about an illegal memory access", False),
    ],
)
@pytest.mark.parametrize("error", ["builtins.RuntimeError", "torch.AcceleratorError"])
def test_is_unrecoverable(error: str, words: str, final: bool) -> None:  # noqa: FBT001 — a column of the table
    """A lost device on every platform; running out of memory on none."""
    assert final is is_unrecoverable(error, words)


def test_only_errors_of_the_device_count() -> None:
    """Any node may raise any words."""
    assert not is_unrecoverable("builtins.ValueError", "CUDA error: an illegal memory access was encountered")
