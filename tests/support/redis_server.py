"""Run a real Redis as a child process on a free port, without saving to disk."""

from __future__ import annotations

import importlib.util
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import final

from .comfy import LOOPBACK, free_port


def missing() -> str:
    """Return why Redis cannot be started here, or ''."""
    if shutil.which("redis-server") is None:
        return "redis-server is not installed (Debian: apt-get install redis-server)"
    if importlib.util.find_spec("redis") is None:
        return "the Python package redis is not installed"
    return ""


@final
class RedisServer:
    """One Redis: start it, kill it, freeze it, start it again on the same port."""

    def __init__(
        self, folder: Path, *args: str, port: int | None = None, tls: bool = False, password: str = ""
    ) -> None:
        self.port = port or free_port()
        self.password = password
        self._tls = tls
        self._folder = folder
        self._args = args
        self._process: subprocess.Popen[bytes] | None = None
        if tls:
            _certificate(folder)

    def __enter__(self) -> RedisServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    @property
    def url(self) -> str:
        """Return its URL with password and the certificate to trust."""
        who = f":{self.password}@" if self.password else ""
        if self._tls:
            return f"rediss://{who}localhost:{self.port}/0?ssl_ca_certs={self._folder / 'cert.pem'}"
        return f"redis://{who}{LOOPBACK}:{self.port}/0"

    def start(self) -> None:
        """Start Redis and wait until the port is open."""
        ports = (
            ["--port", "0", "--tls-port", str(self.port), "--tls-auth-clients", "no"]
            if self._tls
            else ["--port", str(self.port)]
        )
        files = [f"--tls-{name}-file" for name in ("cert", "key")] if self._tls else []
        tls = [
            word for name, file in zip(files, ("cert.pem", "key.pem"), strict=False) for word in (name, file)
        ]
        password = ["--requirepass", self.password] if self.password else []
        command = [
            "redis-server",
            *ports,
            *tls,
            *password,
            "--save",
            "",
            "--appendonly",
            "no",
            "--bind",
            LOOPBACK,
            *self._args,
        ]
        with (self._folder / "redis.log").open("ab") as log:
            self._process = subprocess.Popen(command, cwd=self._folder, stdout=log, stderr=log)
        end = time.monotonic() + 10
        while not self._accepts():
            if self._process.poll() is not None or time.monotonic() > end:
                raise RuntimeError((self._folder / "redis.log").read_text(encoding="utf-8"))
            time.sleep(0.02)

    def kill(self) -> None:
        """Stop Redis. May be called twice."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def freeze(self) -> None:
        """Freeze the process: it accepts connections and never answers."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def _accepts(self) -> bool:
        with socket.socket() as probe:
            probe.settimeout(1.0)
            return probe.connect_ex((LOOPBACK, self.port)) == 0


def _certificate(folder: Path) -> None:
    subprocess.run(
        [
            *(
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-days",
                "2",
                "-subj",
                "/CN=localhost",
            ),
            *("-addext", "subjectAltName=DNS:localhost", "-keyout", "key.pem", "-out", "cert.pem"),
        ],
        cwd=folder,
        check=True,
        capture_output=True,
        timeout=60,
    )
