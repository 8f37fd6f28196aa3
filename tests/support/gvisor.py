"""Run a process in gVisor's `runsc`, checkpoint it, and restore it: as root, on Linux.

Flags as Debian's version of 2022 needs them: no network but loopback, no cgroups, the platform ptrace.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, final

FLAGS = ("--platform=ptrace", "--network=none", "--ignore-cgroups", "--overlay2=none")


def missing() -> str:
    """Return why nothing can be run in gVisor here, or an empty text."""
    if shutil.which("runsc") is None:
        return "runsc is not installed (apt-get install runsc)"
    tried = subprocess.run(["runsc", *FLAGS[:3], "do", "true"], check=False, capture_output=True, text=True)
    return "" if tried.returncode == 0 else f"runsc does not work here: {tried.stderr[-200:].strip()}"


@final
class Sandbox:
    """One process in a sandbox, whose root is this machine's, read-only but for one folder."""

    def __init__(self, folder: Path, command: Sequence[str], *, writable: Path, cwd: Path) -> None:
        """Start nothing yet.

        folder: for the sandbox's own files.
        writable: what the process may change.
        """
        self._folder = folder
        self._command = list(command)
        self._writable = writable
        self._cwd = cwd
        self._names: list[str] = []
        self._token = uuid.uuid4().hex[:8]

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in self._names:
            self._runsc("kill", self._id(name), "KILL", check=False)
            self._runsc("delete", "-force", self._id(name), check=False)

    @property
    def log(self) -> str:
        """What the process and its copies have written."""
        files = sorted(self._folder.glob("*.log"))
        texts = (file.read_text(encoding="utf-8", errors="replace") for file in files)
        return "\n".join(texts).replace("\0", "")  # a copy goes on writing where it had been

    def run(self, name: str, **bundle: Any) -> None:
        """Start the process."""
        self._begin(name, "run", "--detach", "--bundle", str(self._bundle(name, **bundle)))

    def checkpoint(self, name: str) -> int:
        """Copy the process and end it. Return the size of the copy in bytes."""
        image = self._folder / "image"
        image.mkdir()
        self._runsc("checkpoint", f"--image-path={image}", self._id(name))
        self._runsc("delete", "-force", self._id(name), check=False)
        self._names.remove(name)
        return sum(file.stat().st_size for file in image.iterdir())

    def restore(self, name: str, **bundle: Any) -> None:
        """Start a copy of the process."""
        image = f"--image-path={self._folder / 'image'}"
        self._begin(name, "restore", "--detach", "--bundle", str(self._bundle(name, **bundle)), image)

    def ask(self, name: str, *command: str, timeout: float = 60) -> str:
        """Run a program beside the process, in its sandbox. Return what it printed."""
        return self._runsc("exec", self._id(name), *command, timeout=timeout)

    def is_running(self, name: str) -> bool:
        return '"status": "running"' in self._runsc("state", self._id(name), check=False)

    def wait(self, condition: Callable[[], bool], what: str, deadline: float = 60.0) -> None:
        end = time.monotonic() + deadline
        while not condition():
            if time.monotonic() > end:
                raise TimeoutError(f"not {what} after {deadline:.0f} s:\n{self.log[-4000:]}")
            time.sleep(0.1)

    def _bundle(
        self, name: str, *, env: Mapping[str, str] | None = None, mounts: Mapping[Path, Path] | None = None
    ) -> Path:
        """Write the description of a container. `mounts`: folders to see in place of others."""
        folder = self._folder / name
        folder.mkdir()
        binds = {self._writable: self._writable, **(mounts or {})}
        variables = {"PATH": os.environ["PATH"], "HOME": "/root", **(env or {})}
        config = {
            "ociVersion": "1.0.0",
            "process": {
                "user": {"uid": 0, "gid": 0},
                "args": self._command,
                "env": [f"{key}={value}" for key, value in variables.items()],
                "cwd": str(self._cwd),
            },
            "root": {"path": "/", "readonly": True},
            "hostname": name,
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                *(
                    {"destination": str(seen), "type": "bind", "source": str(source), "options": ["rw"]}
                    for seen, source in binds.items()
                ),
            ],
            "linux": {"namespaces": [{"type": kind} for kind in ("pid", "ipc", "uts", "mount", "network")]},
        }
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
        return folder

    def _begin(self, name: str, *words: str) -> None:
        """A detached container keeps the output that it was started with."""
        self._names.append(name)
        with (self._folder / f"{name}.log").open("wb") as log:
            done = subprocess.run(
                [*self._root(), *words, self._id(name)],
                check=False,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                timeout=300,
            )
        if done.returncode:
            raise RuntimeError(f"runsc {words[0]}: {done.returncode}\n{self.log[-4000:]}")

    def _runsc(self, *words: str, check: bool = True, timeout: float = 300) -> str:
        done = subprocess.run(
            [*self._root(), *words], check=False, capture_output=True, text=True, timeout=timeout
        )
        if check and done.returncode:
            raise RuntimeError(
                f"runsc {words[0]}: {done.returncode}\n{done.stdout}{done.stderr}\n{self.log[-4000:]}"
            )
        return done.stdout

    def _id(self, name: str) -> str:
        """The container's control socket has its id for a name, on the whole machine."""
        return f"{name}-{self._token}"

    def _root(self) -> list[str]:
        return ["runsc", f"--root={self._folder / 'state'}", *FLAGS]
