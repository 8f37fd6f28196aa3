"""Owns one ComfyUI process with Comfy Preload: how it is started, asked, given commands and ended.

Knows no Ray.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import signal
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any

import aiohttp
from pydantic import BaseModel, ConfigDict, Field

HERE = Path(__file__).resolve().parent
LOOPBACK = "127.0.0.1"
TAIL = 20
"""Lines of ComfyUI's log that an error quotes."""
DIE_WITH_PARENT = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
os.execv(sys.argv[1], sys.argv[1:])
"""
"""PR_SET_PDEATHSIG, then ComfyUI in this very process: it never outlives its replica, however that ends."""

log = logging.getLogger("ray.serve")


class Options(BaseModel):
    """The `args` of the application in the Serve config file."""

    model_config = ConfigDict(extra="forbid")

    sets: str = str(HERE / "sets.yaml")
    """The file of the model sets; read where the application is built, on the head node."""
    comfyui: str = os.environ.get("COMFYUI_PATH") or "/opt/ComfyUI"
    python: str = os.environ.get("COMFYUI_PYTHON") or "/opt/venv/bin/python"
    arguments: list[str] = []
    """More options of ComfyUI's command line, such as --cpu."""
    folder: str = str(Path(tempfile.gettempdir()) / "comfy-preload-ray")
    """Holds `input`, shared by all replicas, and a folder for each replica with its output and log."""
    listen: str = Field(default=LOOPBACK, pattern=r"^(127\.0\.0\.1|node)$")
    """`node`: on the address of the node, for a cluster of several nodes."""
    ready_timeout_s: float = Field(default=900.0, gt=0)
    prompt_timeout_s: float = Field(default=3600.0, gt=0)
    linger_s: float = Field(default=30.0, ge=0)
    """How long a replica that is scaled down stays after its last prompt: its images are still fetched."""


class StartError(RuntimeError):
    """ComfyUI did not become ready; the sentence holds what /ready says, or the end of its log."""


class CommandError(RuntimeError):
    """A command to Comfy Preload failed; the sentence is its own."""


class ComfyUI:
    """One process. `url` answers once `start` has returned; `exited` is set when the process is gone."""

    def __init__(self, options: Options, tag: str, address: str) -> None:
        self.folder = Path(options.folder) / tag
        self.exited = asyncio.Event()
        self.http: aiohttp.ClientSession
        self._options = options
        self._address = address
        self._port, self.probe_port = _free_ports(address, 2)
        self.url = f"http://{address}:{self._port}"
        self._token = secrets.token_urlsafe(24)
        self._settings = self.folder / "preload.yaml"
        self._process: asyncio.subprocess.Process

    async def start(self, preload: str) -> None:
        """Spawn the process and wait until /ready is 200.

        Raises StartError.
        """
        shared = self.folder.parent / "input"
        for folder in (self.folder / "output", self.folder / "user", shared):
            folder.mkdir(parents=True, exist_ok=True)
        self.write(preload)
        self.http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None, sock_connect=5))
        command = [
            *(self._options.python, str(Path(self._options.comfyui) / "main.py")),
            *("--listen", self._address, "--port", str(self._port), "--disable-auto-launch"),
            *self._options.arguments,
            *("--input-directory", str(shared), "--output-directory", str(self.folder / "output")),
            *("--temp-directory", str(self.folder), "--user-directory", str(self.folder / "user")),
            *("--database-url", f"sqlite:///{self.folder / 'user' / 'comfyui.db'}"),
        ]
        if sys.platform == "linux":
            command = [sys.executable, "-c", DIE_WITH_PARENT, *command]
        # PYTHONPATH is for Ray's Python; OMP_NUM_THREADS is what Ray sets to the CPUs of the actor.
        own = ("PYTHONPATH", "OMP_NUM_THREADS")
        env = {k: v for k, v in os.environ.items() if k not in own and not k.startswith("PRELOAD_")}
        env |= {"PRELOAD_CONFIG": str(self._settings), "PRELOAD_TOKEN": self._token, "PYTHONUNBUFFERED": "1"}
        with (self.folder / "comfyui.log").open("wb") as output:
            self._process = await asyncio.create_subprocess_exec(
                *command,
                cwd=self._options.comfyui,
                env=env,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=asyncio.subprocess.STDOUT,
            )
        self._watch = asyncio.create_task(self._wait())
        try:
            await self._wait_ready()
        except BaseException:
            await self.stop(grace=0)
            raise

    def write(self, preload: str) -> None:
        """Replace preload.yaml; `reload` reads it."""
        new = self._settings.with_suffix(".new")
        new.write_text(preload, encoding="utf-8")
        new.replace(self._settings)

    async def get(self, path: str, *, seconds: float = 10.0) -> tuple[int, Any]:
        """Ask for a path: the status and the JSON. Raises aiohttp.ClientError and TimeoutError."""
        async with self.http.get(self.url + path, timeout=aiohttp.ClientTimeout(total=seconds)) as answer:
            return answer.status, await answer.json()

    async def post(self, path: str, body: Any) -> tuple[int, Any]:
        """Post JSON: the status and what came back. Raises aiohttp.ClientError."""
        async with self.http.post(self.url + path, json=body) as answer:
            text = await answer.text()
            return answer.status, await answer.json() if text.startswith("{") else text

    async def reload(self) -> None:
        """Give the command `reload` and wait until its job is over.

        Raises CommandError.
        """
        headers = {"Authorization": f"Bearer {self._token}"}
        while True:
            async with self.http.post(f"{self.url}/preload/reload", headers=headers) as answer:
                job = await answer.json()
                if answer.status not in (409, 429):
                    break
                await asyncio.sleep(float(answer.headers.get("Retry-After", 1)))
        while job.get("state") in ("queued", "running"):
            await asyncio.sleep(0.05)
            job = (await self.get(f"/preload/jobs/{job['id']}"))[1]
        if job.get("state") != "done":
            raise CommandError((job.get("error") or {}).get("message") or "reload failed")

    async def stop(self, grace: float = 30.0) -> None:
        """End the process, gently then not."""
        if not self.exited.is_set():
            self._process.send_signal(signal.SIGTERM if grace else signal.SIGKILL)
            try:
                await asyncio.wait_for(self.exited.wait(), grace or 10)
            except asyncio.TimeoutError:
                self._process.kill()
                await self.exited.wait()
        await self.http.close()

    def kill(self) -> None:
        """End the process at once."""
        if not self.exited.is_set():
            self._process.kill()

    def ending(self) -> str:
        """How the process ended."""
        code = self._process.returncode
        return (
            f"ComfyUI was ended by signal {-code}"
            if code and code < 0
            else f"ComfyUI ended with status {code}"
        )

    def tail(self) -> str:
        """The end of the log."""
        text = (self.folder / "comfyui.log").read_text(encoding="utf-8", errors="replace")
        return "\n".join(text.splitlines()[-TAIL:])

    async def _wait(self) -> None:
        await self._process.wait()
        self.exited.set()

    async def _wait_ready(self) -> None:
        """The probe's port answers from the first second, while ComfyUI's own is still closed."""
        end = asyncio.get_running_loop().time() + self._options.ready_timeout_s
        said, url = "nothing yet", f"http://{self._address}:{self.probe_port}/ready"
        while not self.exited.is_set():
            try:
                async with self.http.get(url, timeout=aiohttp.ClientTimeout(total=5)) as answer:
                    ready = await answer.json()
                    if answer.status == 200:
                        return
                    if ready["status"] == "failed":
                        raise StartError(f"/ready: {_reasons(ready)}")
                    done = ready["progress"].get("fraction") or 0.0
                    if said != (said := f"{ready['status']}, {done:.0%}"):
                        log.info("ComfyUI: %s", said)
            except (aiohttp.ClientError, asyncio.TimeoutError):
                pass
            if asyncio.get_running_loop().time() > end:
                raise StartError(f"ComfyUI is not ready after {self._options.ready_timeout_s:.0f} s: {said}")
            await asyncio.sleep(0.2)
        raise StartError(f"{self.ending()} before it was ready:\n{self.tail()}")


def _reasons(ready: dict[str, Any]) -> str:
    failing = "; ".join(f"{name}: {problem['message']}" for name, problem in ready["failing"].items())
    return failing or str(ready.get("fault") or "failed")


def _free_ports(address: str, count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind((address, 0))
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports
