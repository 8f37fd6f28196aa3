"""Start ComfyUI in a fork of a process that has imported its libraries, and none of ComfyUI's own modules.

Torch and the other libraries take 4 of the 6 processor seconds of a start. They are imported once per worker,
but for tests that are about the start (marker `cold`). From `main.py` on a fork is like a process of its own:
arguments, environment, log, signals, exit. Two things differ: torch is there before the prestartup script,
and the libraries have read their variables, hence `may_fork`. With `PRELOAD_TEST_COLD=1`, as at night,
nothing is forked.

This file has both sides: what tests import is the client; run as a script, it is the process that forks.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

if TYPE_CHECKING:
    import pytest

__all__ = ["Forked", "environment", "is_cold", "may_fork"]

LIBRARIES = (
    *("torch", "torch._dynamo", "torchvision", "torchaudio", "torchsde", "safetensors.torch", "transformers"),
    *(f"transformers.models.{name}.tokenization_{name}" for name in ("bert", "clip", "llama", "qwen2", "t5")),
    *("scipy.stats", "scipy.integrate", "scipy.optimize", "scipy.ndimage", "kornia.filters", "kornia.color"),
    *("sqlalchemy.orm", "alembic.command", "pydantic_settings", "aiohttp.web", "requests", "av", "spandrel"),
)
"""What ComfyUI 0.3.75 and 0.33.0 import. One that is missing is left out."""

READ_LATER = (
    *("PRELOAD_", "PYTEST_", "PYTHONPATH", "SIMDEV_", "SNAPSHOT_"),
    *("REDIS_URL", "HUB_TOKEN", "POD_IP", "GONE", "SHARED"),
)
"""Starts of the names of variables that neither the interpreter nor a library of these has read yet."""


def may_fork(env: Mapping[str, str]) -> bool:
    """A fork would see this environment as a process of its own does."""
    if sys.platform != "linux" or os.environ.get("PRELOAD_TEST_COLD") == "1":
        return False  # libraries of macOS do not survive a fork, and Windows has none
    usual = environment()
    changed = {name for name in {*env, *usual} if env.get(name) != usual.get(name)}
    return all(name.startswith(READ_LATER) for name in changed)


def is_cold(request: pytest.FixtureRequest) -> bool:
    """The test that asks is about the start (marker `cold`), so its ComfyUI imports its libraries itself."""
    node: pytest.Item = request.node  # a test, or the module of one
    return node.get_closest_marker("cold") is not None


def environment() -> dict[str, str]:
    """Return the environment of a ComfyUI to which a test adds nothing."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PRELOAD_")}
    return env | {"PYTHONUNBUFFERED": "1", "HF_HUB_OFFLINE": "1"}


@final
class Forked:
    """A forked process, as `subprocess.Popen` presents one."""

    def __init__(self, command: Sequence[str], *, cwd: Path, env: Mapping[str, str], log: Path) -> None:
        """`command`: the interpreter, a script and its arguments. `log`: receives stdout and stderr."""
        self._server = _server(command[0])
        self._code: int | None = None
        self.pid: int = self._server.ask(
            {"argv": list(command[1:]), "cwd": str(cwd), "env": dict(env), "log": str(log)}
        )

    def poll(self) -> int | None:
        """Return the exit code, or None while it runs."""
        if self._code is None:
            self._code = self._server.ask({"poll": self.pid})
        return self._code

    def wait(self, timeout: float) -> int:
        """Wait for the exit code; raise TimeoutExpired after `timeout` seconds."""
        end = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired("ComfyUI", timeout)
            time.sleep(0.02)
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended. Its number is its own until `poll` has seen it end."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)


@cache
def _server(python: str) -> _Server:
    """One for each interpreter, until pytest ends."""
    server = _Server(python)
    atexit.register(server.close)
    return server


@final
class _Server:
    """The process that forks, and its two pipes: one line asks, one line responds."""

    def __init__(self, python: str) -> None:
        self._process = subprocess.Popen(
            [python, __file__], env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._lock = threading.Lock()

    def ask(self, request: dict[str, Any]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._lock:
            print(json.dumps(request), file=self._process.stdin, flush=True)
            return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        self._process.communicate()


def main() -> None:
    """Import the libraries, then fork at each request until there are no more."""
    del sys.path[0]  # tests/support
    gc.disable()
    for name in LIBRARIES:
        with suppress(ImportError):
            importlib.import_module(name)
    gc.freeze()  # as Python's docs advise before a fork: the forks share these pages, and do not walk them
    for line in iter(sys.stdin.readline, ""):
        request: dict[str, Any] = json.loads(line)
        if child := request.get("poll"):
            found, status = os.waitpid(child, os.WNOHANG)
            reply = os.waitstatus_to_exitcode(status) if found else None
        elif not (reply := os.fork()):
            _become(**request)  # returns as a script of its own does, into the interpreter's end
            return
        sys.stdout.write(f"{json.dumps(reply)}\n")
        sys.stdout.flush()


def _become(argv: list[str], cwd: str, env: dict[str, str], log: str) -> None:
    gc.enable()
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    for fd, path, flags in ((0, os.devnull, os.O_RDONLY), (1, log, os.O_WRONLY), (2, log, os.O_WRONLY)):
        opened = os.open(path, flags | os.O_APPEND)
        os.dup2(opened, fd)
        os.close(opened)
    sys.argv = argv
    sys.path[:0] = [str(Path(argv[0]).parent), *filter(None, env.get("PYTHONPATH", "").split(os.pathsep))]
    runpy.run_path(argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
