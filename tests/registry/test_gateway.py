"""The example in deploy/gateway, run by a real nginx: prompts go where their models are, and anywhere if that fails."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from comfy_preload.registry.fleet import Fleet
from tests.registry.replicas import held, replica
from tests.support import prompts
from tests.support.comfy import free_port
from tests.support.reply import ask

EXAMPLE = Path(__file__).resolve().parents[2] / "deploy" / "gateway"
MODULE = Path("/usr/lib/nginx/modules/ngx_http_js_module.so")


class Replica(ThreadingHTTPServer):
    """As much of one as the gateway sees. `fleet` is shared by all."""

    daemon_threads = True

    def __init__(self, name: str, fleet: dict[str, Any]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.name = name
        self.fleet = fleet
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, daemon=True).start()


class _Handler(BaseHTTPRequestHandler):
    @property
    def replica(self) -> Replica:
        assert isinstance(self.server, Replica)
        return self.server

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        fleet: Fleet = self.replica.fleet["now"]
        if url.path == "/preload/locate":
            self._say(fleet.locate([{name} for name in parse_qs(url.query)["model"]]))
        elif url.path == "/preload/replicas":
            self._say(fleet.listing())
        else:
            self._say({"from": self.replica.name})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self._say({"from": self.replica.name, "nodes": len(body.get("prompt") or ())})

    def _say(self, body: Any) -> None:
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 — its name in the standard library
        pass


@pytest.fixture
def replicas() -> Iterator[list[Replica]]:
    shared: dict[str, Any] = {}
    found = [Replica(name, shared) for name in "abc"]
    a, b, c = (one.url for one in found)
    shared["now"] = Fleet(
        own=replica("a", held("other"), address=a),
        others=(
            replica("b", held("tiny"), held("clip_l"), held("模型"), address=b),
            replica("c", held("clip_l"), held("x"), address=c),
        ),
    )
    yield found
    for one in found:
        one.shutdown()
        one.server_close()


@pytest.fixture
def gateway(replicas: list[Replica], tmp_path: Path) -> Iterator[str]:
    """The example with our addresses and a free port: its URL."""
    if shutil.which("nginx") is None or not MODULE.exists():
        pytest.skip("nginx with njs is not installed (Debian: apt-get install nginx libnginx-mod-http-js)")
    port = free_port()
    text = (EXAMPLE / "nginx.conf").read_text(encoding="utf-8")
    for i, one in enumerate(replicas, 1):
        text = text.replace(f"10.0.0.{i}:8188", one.url.removeprefix("http://"))
    text = text.replace("listen 8080", f"listen 127.0.0.1:{port}").replace('"/etc/nginx/"', f'"{tmp_path}/"')
    text = text.replace("modules/ngx_http", f"{MODULE.parent}/ngx_http")
    own = "".join(
        f"{kind}_temp_path {tmp_path / kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    text = f"daemon off;\npid {tmp_path}/pid;\nuser root;\n" + text.replace(
        "http {", f"http {{\naccess_log off;\n{own}", 1
    )
    shutil.copy(EXAMPLE / "gateway.js", tmp_path)
    conf = tmp_path / "nginx.conf"
    conf.write_text(text, encoding="utf-8")
    process = subprocess.Popen(
        ["nginx", "-p", str(tmp_path), "-e", str(tmp_path / "error.log"), "-c", str(conf)]
    )
    try:
        end = time.monotonic() + 10
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.poll() is None, (tmp_path / "error.log").read_text(encoding="utf-8")
            assert time.monotonic() < end
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


def send(gateway: str, prompt: Any) -> tuple[str, str | None]:
    """Who got it, and what the header says."""
    reply = ask(f"{gateway}/prompt", method="POST", body={"prompt": prompt})
    assert reply.status == 200
    return reply.json["from"], reply.headers.get("X-Replica")


def test_warm(gateway: str) -> None:
    """A prompt goes where all its models are, always, body and all; its header says where that is."""
    assert {("b", "b")} == {send(gateway, prompts.image()) for _ in range(6)}


def test_chinese_name_in_a_folder(gateway: str) -> None:
    """The name of a model is that of its file, without folder and ending."""
    assert ("b", "b") == send(gateway, prompts.load("VAELoader", vae_name="文件夹/模型.safetensors"))


def test_only_the_first(gateway: str) -> None:
    """Where nobody has all of them, who has the largest gets it."""
    assert ("a", "a") == send(gateway, prompts.image(unet="other.safetensors"))


@pytest.mark.parametrize(
    "prompt", [prompts.load("VAELoader", vae_name="unknown.pt"), {}, [], None, {"1": "no node"}]
)
def test_cold(gateway: str, prompt: Any) -> None:
    """Where nobody has any, or the prompt is none, anybody gets it."""
    assert send(gateway, prompt)[1] is None


def test_result(gateway: str) -> None:
    """The header leads to where the prompt was; without it, or with one that means nothing, anybody answers."""
    assert {"c"} == {ask(f"{gateway}/history/1", headers={"X-Replica": "c"}).json["from"] for _ in range(4)}
    assert 200 == ask(f"{gateway}/history/1", headers={"X-Replica": "http://evil"}).status


def test_dead(gateway: str, replicas: list[Replica]) -> None:
    """Who is recommended and dead is passed over."""
    replicas[1].shutdown()
    replicas[1].server_close()

    assert {send(gateway, prompts.image())[0] for _ in range(4)} <= {"a", "c"}


def test_strange_address(gateway: str, replicas: list[Replica]) -> None:
    """An address that is more than host and port is not followed."""
    shared = replicas[0].fleet
    shared["now"] = Fleet(own=replica("a", held("tiny"), held("clip_l"), address=f"{replicas[1].url}/evil"))

    assert send(gateway, prompts.image())[1] is None
