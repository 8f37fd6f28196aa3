"""The scripts of the chart's sidecars, run as the chart runs them.

Real files, real processes, real servers.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.scripts import command, load

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it runs in Linux containers")


class Server(ThreadingHTTPServer):
    """Notes requests and answers them with `status`."""

    daemon_threads = True

    def __init__(self, answer: Callable[[], Any] = dict) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer = answer
        self.status = 200
        self.seen: list[tuple[str, str, str]] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Server)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        self.server.seen.append((f"{self.command} {self.path}", self.headers.get("Authorization", ""), body))
        data = json.dumps(self.server.answer()).encode()
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST  # noqa: N815 — its name in the standard library

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 — its name in the standard library
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    one = Server()
    yield one
    one.shutdown()
    one.server_close()


def until(condition: Callable[[], object], deadline: float = 30) -> None:
    end = time.monotonic() + deadline
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_reload(server: Server, tmp_path: Path) -> None:
    """A changed ConfigMap, as the kubelet swaps it, is one command with the token of that moment.

    A refusal is tried again.
    """
    for number in (1, 2):
        (tmp_path / f"..{number}").mkdir()
        (tmp_path / f"..{number}" / "preload.yaml").write_text(f"drain: {number}", encoding="utf-8")
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "preload.yaml").symlink_to("..data/preload.yaml")
    token = tmp_path.parent / "token"
    token.write_text("old\n", encoding="utf-8")
    server.status = 409
    words = command("reload", **{"/etc/comfyui-preload": str(tmp_path), "http://127.0.0.1:8188": server.url})
    process = subprocess.Popen(
        words, env=os.environ | {"PRELOAD_TOKEN_FILE": str(token)}, stdout=subprocess.DEVNULL
    )
    try:
        time.sleep(1)
        (tmp_path / "new").symlink_to("..2")
        (tmp_path / "new").rename(tmp_path / "..data")
        until(lambda: server.seen)
        token.write_text("new\n", encoding="utf-8")
        server.status = 202
        until(lambda: len(server.seen) > 1)
        time.sleep(6)
    finally:
        process.terminate()

    assert 0 == process.wait(10)
    assert [
        ("POST /preload/reload", "Bearer old", ""),
        ("POST /preload/reload", "Bearer new", ""),
    ] == server.seen


def test_deletion_cost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The patch that the API server gets, and that it is this pod's; an IPv6 address has its brackets."""
    cost: Any = load("deletion_cost")
    for name, text in (("token", "secret\n"), ("namespace", "comfyui"), ("ca.crt", "")):
        (tmp_path / name).write_text(text, encoding="utf-8")
    sent: list[Any] = []

    class _Answer:
        def __enter__(self) -> None: ...
        def __exit__(self, *_: object) -> None: ...

    def noted(request: Any, **_: Any) -> _Answer:
        sent.append(request)
        return _Answer()

    monkeypatch.setattr(cost, "urlopen", noted)
    monkeypatch.setattr(cost.ssl, "create_default_context", lambda **_: None)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    monkeypatch.setenv("POD_NAME", "pod-1")
    cost.patch(7, tmp_path)
    (request,) = sent

    assert "https://[fd00::1]:443/api/v1/namespaces/comfyui/pods/pod-1" == request.full_url
    assert ("PATCH", "Bearer secret") == (request.get_method(), request.headers["Authorization"])
    assert {"metadata": {"annotations": {"controller.kubernetes.io/pod-deletion-cost": "7"}}} == json.loads(
        request.data
    )


def test_queue_of_the_probe(server: Server) -> None:
    cost: Any = load("deletion_cost")
    server.answer = lambda: {"queue_remaining": 3}

    assert 3 == cost.queue(server.url)
    assert [("GET /preload", "", "")] == server.seen
