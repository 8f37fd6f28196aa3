"""The command line answers at once, ends with the codes it promises, and imports nothing it does not need."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys

import pytest

from comfy_preload.cli import main
from tests.cli.command import ROOT, command, environment, run, start

CHILD = """
import importlib, sys
sys.path.insert(0, sys.argv[1])
importlib.import_module("comfy_preload.cli." + sys.argv[2])
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""
HEAVY = {"pydantic", "numpy", "yaml", "rich", "psutil", "asyncio", "aiohttp"}
HOST = {"torch", "comfy", "nodes", "folder_paths", "execution", "server"}
MODULES = sorted(
    path.stem for path in (ROOT / "comfy_preload" / "cli").glob("*.py") if path.stem != "__init__"
)


@pytest.mark.parametrize("module", MODULES)
def test_imports(module: str) -> None:
    """No module imports torch or ComfyUI.

    The one of a health check imports nothing else that takes time either.
    """
    command = [sys.executable, "-I", "-c", CHILD, str(ROOT), module]
    found = set(
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.split()
    )

    assert set() == found & HOST
    if module in ("parser", "wait"):
        assert set() == found & HEAVY


def test_start() -> None:
    """A health check imports few modules, Python's own start included. `bench.costs` shows the time."""
    words = command("wait", "--once", "http://127.0.0.1:1")
    done = subprocess.run(
        [words[0], "-X", "importtime", *words[1:]],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(),
    )
    imported = [
        line.rpartition("|")[2].strip()
        for line in done.stderr.splitlines()
        if line.startswith("import time:")
    ]

    assert 1 == done.returncode
    assert "comfy_preload.cli.client" in imported
    assert len(imported) <= 220
    assert set() == HEAVY & set(imported)


@pytest.mark.parametrize(
    "words",
    [
        pytest.param([], id="nothing"),
        pytest.param(["frobnicate"], id="unknown-command"),
        pytest.param(["wait", "127.0.0.1:8188"], id="no-scheme"),
        pytest.param(["wait", "http://[::1"], id="broken-address"),
        pytest.param(["wait", "http://x:99999"], id="no-such-port"),
        pytest.param(["wait", "http://x", "--timeout", "soon"], id="timeout-no-number"),
        pytest.param(["wait", "http://x", "--timeout", "nan"], id="timeout-nan"),
        pytest.param(["capture", "ftp://x"], id="other-scheme"),
        pytest.param(["convert", "a.safetensors", "b.safetensors"], id="no-dtype"),
        pytest.param(["convert", "a.safetensors", "b.safetensors", "--dtype", "fp8"], id="unknown-dtype"),
        pytest.param(["check", "--comfyui", "nowhere"], id="no-comfyui"),
        pytest.param(["check", "--read", "-1"], id="negative"),
    ],
)
def test_usage(words: list[str]) -> None:
    """What cannot be meant ends with 2, one line or two on stderr, and no traceback."""
    done = run(*words)

    assert 2 == done.code
    assert done.err
    assert "Traceback" not in done.err
    assert "" == done.out


@pytest.mark.parametrize("command", ["check", "plan", "capture", "wait", "trace", "imports", "convert"])
def test_help(command: str) -> None:
    """Every command explains itself and its exit codes, and can answer in JSON."""
    done = run(command, "--help")

    assert 0 == done.code
    assert "exit codes: 0 good" in done.out
    assert "--json" in done.out


def test_error_as_json() -> None:
    """With --json an error is JSON too, with the keys that errors have over HTTP."""
    done = run("wait", "--json", "nonsense")

    assert 2 == done.code
    assert ["code", "message", "hint", "line"] == list(done.json["error"])
    assert "url_invalid" == done.json["error"]["code"]


def test_twice_in_one_process(capsys: pytest.CaptureFixture[str]) -> None:
    """`main` is a function, also after it was called."""
    assert [1, 1] == [main(["wait", "--once", "--quiet", "http://127.0.0.1:1"]) for _ in range(2)]
    assert ("", "") == capsys.readouterr()


def test_closed_pipe() -> None:
    """`… | head -0` is not an error."""
    process = start("--help")
    assert process.stdout
    assert process.stderr
    process.stdout.close()
    with process:
        complaint = process.stderr.read()

    assert "Traceback" not in complaint
    assert process.returncode in (0, 120)


def test_interrupted() -> None:
    """Ctrl-C ends it with 130, without a traceback."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)
        process = start("wait", f"http://127.0.0.1:{server.getsockname()[1]}", "--interval", "60")
        connection, _ = server.accept()  # it has asked, and waits for an answer
        connection.close()
        process.send_signal(signal.SIGINT)
    _, complaint = process.communicate(timeout=30)

    assert (130, "") == (process.returncode, complaint)
