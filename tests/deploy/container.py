"""Owns a ComfyUI that runs in an image as a container runtime would run it.

Sandbox.sh, in namespaces of its own.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import psutil

from tests.deploy import dockerfile
from tests.deploy.buildah import Image, Store

UID = 1000
_SANDBOX = Path(__file__).parent / "sandbox.sh"
T = TypeVar("T")


class Running:
    """ComfyUI in an image: process 1 of its own namespaces, root read-only.

    Asked through the image's own health check.
    """

    def __init__(self, process: subprocess.Popen[bytes], image: Image, log_file: Path) -> None:
        self.process = process
        self._image = image
        self._log_file = log_file
        self.first = wait_for(lambda: entrypoint(process.pid), "running")

    @property
    def log(self) -> str:
        return self._log_file.read_text(encoding="utf-8", errors="replace")

    def inside(self, *words: str) -> tuple[int, str]:
        """Run a command beside it, as `docker exec` would."""
        enter = [
            "nsenter",
            "--target",
            str(self.first),
            "--mount",
            "--pid",
            "--net",
            "--root",
            "--wd",
            "--setgid",
            str(UID),
        ]
        command = [*enter, "--setuid", str(UID), "--", "/usr/bin/env", "-i", *self._image.environment, *words]
        ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        return ran.returncode, ran.stdout + ran.stderr

    def health(self) -> int:
        return self.inside(*dockerfile.health_check())[0]

    def ready(self, port: int) -> tuple[int | None, str]:
        """Status code, or None if refused, and status."""
        answer: dict[str, Any] = json.loads(
            self.inside(*dockerfile.health_check()[:-1], "--json", f"http://127.0.0.1:{port}")[1]
        )
        return answer["http"], answer["status"]


def wait_for(condition: Callable[[], T | None], what: str, deadline: float = 120) -> T:
    """What it gives, as soon as that is something."""
    end = time.monotonic() + deadline
    while not (found := condition()):
        assert time.monotonic() < end, f"not {what} after {deadline:.0f} s"
        time.sleep(0.05)
    return found


@contextmanager
def running(store: Store, folder: Path, **more: str) -> Iterator[Running]:
    """Start the app, with more environment variables if need be, and see that it ends."""
    with store.container("app") as name:
        root = store.buildah("mount", name).strip()
        image = store.image("localhost/app")
        command = [
            "unshare",
            "--mount",
            "--pid",
            "--net",
            "--fork",
            "--kill-child",
            "sh",
            str(_SANDBOX),
            root,
            f"{UID}:{UID}",
        ]
        environment = dict(pair.split("=", 1) for pair in image.environment)
        log_file = folder / "comfyui.log"
        with log_file.open("wb") as stream:
            process = subprocess.Popen(
                [*command, *image.command, "--cpu"],
                env={**environment, **more},
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
            )
        try:
            yield Running(process, image, log_file)
        finally:
            end(process)


def entrypoint(pid: int) -> int | None:
    """The image's own first process, below one that we started."""
    for process in psutil.Process(pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if process.name() == "dumb-init":
                return process.pid
    return None


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill it, unless it has ended, and what is below it."""
    if process.poll() is None:
        for one in [*psutil.Process(process.pid).children(recursive=True), process]:
            with suppress(psutil.NoSuchProcess):
                one.kill()
    process.wait(30)
