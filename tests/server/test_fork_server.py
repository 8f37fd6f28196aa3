"""A forked ComfyUI is like one that is started: the same script sees and does the same either way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.comfy import ComfyServer
from tests.support.fork_server import Forked, environment, may_fork
from tools.host import comfyui_python

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="nothing is forked elsewhere")

SCRIPT = """
import atexit, gc, json, os, signal, sys, threading, time
import beside, given
atexit.register(print, "ended", flush=True)
facts = {
    "argv": sys.argv, "cwd": os.getcwd(), "env": dict(os.environ), "name": __name__, "file": __file__,
    "path": sys.path[:2], "stdin": sys.stdin.read(), "beside": beside.__file__, "given": given.__file__,
    "threads": threading.active_count(), "gc": gc.isenabled(), "int": str(signal.getsignal(signal.SIGINT)),
    "host": sorted({name.partition(".")[0] for name in sys.modules} & {"comfy", "nodes", "main", "server"}),
}
print(json.dumps(facts), flush=True)
print("to stderr", file=sys.stderr, flush=True)
if sys.argv[1] == "sleep":
    time.sleep(60)
sys.exit(int(sys.argv[1]))
"""


def started(command: list[str], cwd: Path, env: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        return subprocess.Popen(
            command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )


def forked(command: list[str], cwd: Path, env: dict[str, str], log: Path) -> Forked:
    return Forked(command, cwd=cwd, env=env, log=log)


Start = Callable[[list[str], Path, dict[str, str], Path], Any]


def run(start: Start, folder: Path, word: str) -> tuple[int, list[str]]:
    """Run the script one way, and return its exit code and its log."""
    log = folder / f"{start.__name__}.log"
    log.touch()
    env = environment() | {"PYTHONPATH": str(folder / "given"), "PRELOAD_NAME": "值"}
    process = start([str(comfyui_python()), str(folder / "main.py"), word, "--é b"], folder, env, log)
    if word == "sleep":
        while not log.read_text(encoding="utf-8").endswith("to stderr\n"):
            assert process.poll() is None
        process.terminate()
    return process.wait(60), log.read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize(("word", "code"), [("0", 0), ("3", 3), ("sleep", -signal.SIGTERM)])
def test_same_either_way(tmp_path: Path, word: str, code: int) -> None:
    (tmp_path / "given").mkdir()
    (tmp_path / "main.py").write_text(SCRIPT, encoding="utf-8")
    (tmp_path / "beside.py").touch()
    (tmp_path / "given" / "given.py").touch()
    (ours, ours_log), (theirs, theirs_log) = run(forked, tmp_path, word), run(started, tmp_path, word)
    assert ours == theirs == code
    assert json.loads(ours_log[0]) == json.loads(theirs_log[0])
    assert ours_log[1:] == theirs_log[1:] == ["to stderr", *(["ended"] if code >= 0 else [])]


@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "PYTHONHASHSEED", "HF_HUB_OFFLINE", "HOME", "TMPDIR"])
def test_variable_that_was_read(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fork would not see it."""
    monkeypatch.delenv("PRELOAD_TEST_COLD", raising=False)
    assert may_fork(environment() | {"PRELOAD_CONFIG": "x", "PYTHONPATH": "y"})
    assert not may_fork(environment() | {name: "0"})


@pytest.mark.parametrize("cold", ["0", "1"])
def test_cold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cold: str) -> None:
    """`PRELOAD_TEST_COLD=1` starts each in a process of its own, a child of this one."""
    monkeypatch.setenv("PRELOAD_TEST_COLD", cold)
    (tmp_path / "main.py").write_text("import time; time.sleep(60)", encoding="utf-8")
    with ComfyServer(
        tmp_path / "base", host=tmp_path, python=comfyui_python(), plugin=False, forked=True
    ) as comfy:
        parent = Path(f"/proc/{comfy.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1]
        assert (cold == "1") == (int(parent) == os.getpid())
