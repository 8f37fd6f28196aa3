"""Run a real ComfyUI as a child process, in its own base directory, with or without the plugin.

    with ComfyServer(tmp_path, host=comfyui_path(), python=comfyui_python(), preload="models: [{vae: taesd}]")
    as comfy:
        comfy.wait_ready()
        comfy.run(prompts.image())

Standard library only, so that the benchmark can use it too. It never touches a process that it did not start.
"""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, final

from .base_directory import PLUGIN, SINK, lay_out, put_plugin
from .fork_server import Forked, environment, may_fork
from .reply import Reply, ask

__all__ = [
    "SINK",
    "ComfyServer",
    "NotReadyError",
    "PromptFailedError",
    "Reply",
    "ServerDiedError",
    "free_port",
]

LOOPBACK = "127.0.0.1"
TAIL = 40
FREED = 10.0
"""Seconds that the system has to free the memory and the port of a process that was killed."""


class ServerDiedError(Exception):
    """ComfyUI exited while a test waited; the message ends with its last log lines."""


class NotReadyError(Exception):
    """The preload failed: /ready will not become 200. The message has its response and the last log lines."""


class PromptFailedError(Exception):
    """A prompt was refused or a node in it raised; `details` is ComfyUI's response."""

    def __init__(self, message: str, details: Any) -> None:
        super().__init__(message)
        self.details = details


@final
class ComfyServer:
    """One ComfyUI: its folders, and how to start, query and stop it."""

    def __init__(
        self,
        base: Path,
        *,
        host: Path,
        python: Path,
        plugin: bool = True,
        preload: str | None = None,
        models: Path | None = None,
        custom_nodes: Mapping[str, str | Path] | None = None,
        args: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        port: int | None = None,
        cpu: bool = True,
        forked: bool = False,
    ) -> None:
        """Create the base directory; start nothing yet.

        preload: text of the preload.yaml; None leaves the one that the plugin ships.
        models: a folder to use as `models` (linked, so shared); None makes an empty one.
        custom_nodes: more nodes, by folder name: the text of an `__init__.py`, or a folder to copy.
        forked: by a process that has imported the libraries already, where it can (`fork_server`).
        """
        self.base = base
        self.port = port or free_port()
        self.models = base / "models"
        self.pid: int | None = None
        self._host = host
        self._process: subprocess.Popen[bytes] | Forked | None = None
        self._launches = 0
        self._peak: int | None = None

        lay_out(base, models=models, custom_nodes=custom_nodes or {})
        names = list(custom_nodes or ())
        if plugin:
            names.append(PLUGIN)
            put_plugin(base / "custom_nodes" / PLUGIN)

        self.env = environment()
        if preload is not None:
            config = base / "preload.yaml"
            config.write_text(preload, encoding="utf-8")
            self.env["PRELOAD_CONFIG"] = str(config)
        self.env |= env or {}
        self._forked = forked and may_fork(self.env)
        self.command = [
            *(str(python), str(host / "main.py"), "--port", str(self.port), "--base-directory", str(base)),
            *(["--cpu"] if cpu else []),
            # By default ComfyUI keeps its database in the installation, where two servers would share it.
            *("--database-url", f"sqlite:///{base / 'user' / 'comfyui.db'}"),
            *(
                "--disable-api-nodes",
                "--disable-all-custom-nodes",
                *(["--whitelist-custom-nodes", *names] if names else []),
            ),
            *args,
        ]

    def __enter__(self) -> ComfyServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Return its URL."""
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def log_file(self) -> Path:
        """Return the log file of the last launch.

        Every launch has its own, so that old lines cannot satisfy a test.
        """
        return self.base / f"comfyui-{self._launches}.log"

    @property
    def log(self) -> str:
        """Return what the last launch has logged so far."""
        return self.log_file.read_text(encoding="utf-8", errors="replace") if self.log_file.exists() else ""

    @property
    def running(self) -> bool:
        """Return whether the process is alive."""
        return self._process is not None and self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """Return the exit code of the last launch, or None while it runs."""
        return self._process.poll() if self._process else None

    @property
    def peak_rss(self) -> int | None:
        """Return the peak memory of the process in bytes, also after it was stopped; None without /proc."""
        return self._read_peak() or self._peak

    def start(self) -> None:
        """Start the process. Return at once."""
        if self.running:
            message = "already running"
            raise RuntimeError(message)
        self._launches += 1
        with self.log_file.open("wb") as log:
            if self._forked:
                self._process = Forked(self.command, cwd=self._host, env=self.env, log=self.log_file)
            else:
                self._process = subprocess.Popen(
                    self.command,
                    cwd=self._host,
                    env=self.env,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )
        self.pid = self._process.pid

    def wait(
        self, condition: Callable[[], bool], what: str, *, deadline: float = 120.0, every: float = 0.02
    ) -> None:
        """Wait until `condition()`; raise if ComfyUI exits first or after `deadline` seconds."""
        end = time.monotonic() + deadline
        while not condition():
            if not self.running:
                raise ServerDiedError(
                    f"ComfyUI ended with {self.exit_code} before it was {what}:\n{self.tail()}"
                )
            if time.monotonic() > end:
                raise TimeoutError(f"ComfyUI is not {what} after {deadline:.0f} s:\n{self.tail()}")
            time.sleep(every)

    def wait_listening(self, deadline: float = 120.0) -> None:
        """Wait until the port accepts a connection."""
        self.wait(lambda: _accepts(self.port), "listening", deadline=deadline)

    def wait_ready(self, deadline: float = 120.0) -> Reply:
        """Wait until /ready is 200 and return the response; raise as soon as the status is failed."""
        self.wait_listening(deadline)

        def decided() -> bool:
            reply = self.get("/ready")
            return reply.status == 200 or (reply.json or {}).get("status") == "failed"

        self.wait(decided, "ready", deadline=deadline)
        reply = self.get("/ready")
        if reply.status != 200:
            raise NotReadyError(f"{reply.text}\n{self.tail()}")
        return reply

    def wait_exit(self, deadline: float = 120.0) -> int:
        """Wait until the process exits by itself and return its exit code."""
        if self._process is None:
            message = "never started"
            raise RuntimeError(message)
        return self._process.wait(deadline)

    def get(self, path: str, headers: Mapping[str, str] | None = None, *, method: str = "GET") -> Reply:
        """Send a GET request."""
        return ask(self.url + path, headers=headers, method=method)

    def post(self, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Reply:
        """Send a POST request with JSON or without a body."""
        return ask(self.url + path, method="POST", body=body, headers=headers)

    def queue(self, prompt: Mapping[str, Any], **extra: Any) -> str:
        """Post a prompt and return its id without waiting for it."""
        reply = self.post("/prompt", {"prompt": prompt, **extra})
        if reply.status != 200:
            raise PromptFailedError(f"refused with {reply.status}: {reply.text[:2000]}", reply.json)
        return str(reply.json["prompt_id"])

    def result(self, prompt_id: str, deadline: float = 120.0, *, every: float = 0.01) -> dict[str, Any]:
        """Wait for a queued prompt and return its history; raise if a node raised."""
        found: dict[str, Any] = {}

        def finished() -> bool:
            found.update(self.get(f"/history/{prompt_id}").json)
            return bool(found)

        self.wait(finished, f"done with prompt {prompt_id}", deadline=deadline, every=every)
        entry: dict[str, Any] = found[prompt_id]
        if entry["status"]["status_str"] != "success":
            raise PromptFailedError(_failure(entry["status"]["messages"]), entry)
        return entry

    def run(self, prompt: Mapping[str, Any], deadline: float = 120.0, **extra: Any) -> dict[str, Any]:
        """Run a prompt to its end and return its history."""
        return self.result(self.queue(prompt, **extra), deadline)

    def sink(self, prompt: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """Run a prompt with a `Sink` (see `SINK`) and return its report, by input."""
        outputs = self.run(prompt)["outputs"].values()
        return {row["input"]: row for output in outputs for row in output.get("objects", ())}

    def stop(self, grace: float = 0.0) -> None:
        """End the process that `start` spawned, and see that its port is free. May be called twice.

        It is killed, since most tests are over by then; `grace` is how many seconds it has to end by SIGTERM
        before that.
        """
        if self._process is None:
            return
        if self.running:
            self._peak = self._read_peak()
            if grace:
                self._process.terminate()
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(grace)
            self._process.kill()  # does nothing to a process that has ended
        self._process.wait(FREED)
        end = time.monotonic() + FREED
        while _accepts(self.port):
            if time.monotonic() > end:
                raise TimeoutError(f"port {self.port} still answers {FREED:.0f} s after ComfyUI ended")
            time.sleep(0.02)

    def tail(self, lines: int = TAIL) -> str:
        """Return the end of the log."""
        return "\n".join(self.log.splitlines()[-lines:])

    def _read_peak(self) -> int | None:
        status = Path(f"/proc/{self.pid}/status")
        if not self.running or not status.exists():
            return None
        rows = dict(line.split(":", 1) for line in status.read_text(encoding="utf-8").splitlines())
        return int(rows["VmHWM"].split()[0]) * 1024 if "VmHWM" in rows else None


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((LOOPBACK, port)) == 0


def _failure(messages: list[tuple[str, dict[str, Any]]]) -> str:
    for event, facts in messages:
        if event == "execution_error":
            place = f"{facts['node_type']} (node {facts['node_id']})"
            raised = f"{facts['exception_type']}: {facts['exception_message']}"
            return f"{place}: {raised}\n{''.join(facts['traceback'])}"
    return f"not finished: {[event for event, _ in messages]}"
