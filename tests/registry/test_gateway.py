"""The gateway in a real nginx: where each request goes, one delivery of each prompt.

Real ComfyUIs: test_gateway_fleet.py.
"""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from comfy_preload.registry.fleet import Fleet
from tests.registry.replicas import held, replica
from tests.support import nginx, prompts
from tests.support.reply import Reply, ask

BEARER = "Bearer s3cret"


class Replica(ThreadingHTTPServer):
    """As much of one as the gateway sees, with the faults that a real one has only by accident.

    `fleet` is shared by all.
    """

    daemon_threads = True

    def __init__(self, name: str, fleet: dict[str, Any], host: str = "127.0.0.1") -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, 0), _Handler)
        self.name = name
        self.fleet = fleet
        self.delivered: list[int] = []
        """Bytes of each body of POST that arrived."""
        self.fault = ""
        """503: refuses prompts; hang-up: closes the connection when it has the prompt."""
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def die(self) -> None:
        """As if killed: nobody listens any more."""
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    @property
    def replica(self) -> Replica:
        assert isinstance(self.server, Replica)
        return self.server

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        fleet: Fleet = self.replica.fleet["now"]
        if fleet.guarded and url.path.startswith("/preload/") and self.headers["Authorization"] != BEARER:
            self._say({"error": {"code": "fleet_refused"}}, 401)
        elif url.path == "/preload/locate":
            self._say(fleet.locate([{name} for name in parse_qs(url.query)["model"]]))
        elif url.path == "/preload/replicas":
            self._say(fleet.listing())
        else:
            self._say({"from": self.replica.name})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.replica.fault == "503":
            self._say({"error": "draining"}, 503)
            return
        self.replica.delivered.append(len(body))
        if self.replica.fault == "hang-up":
            self.close_connection = True
            return
        self._say({"from": self.replica.name})

    def _say(self, body: Any, status: int = 200) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 — its name in the standard library
        pass


def fleet(a: str, b: str, c: str, **fields: Any) -> Fleet:
    """`a` has one model, `b` all of them, `c` the diffusion model of a second set and a text encoder."""
    return Fleet(
        own=replica("a", held("other"), address=a),
        others=(
            replica("b", held("tiny"), held("clip_l"), held("模型"), address=b, **fields),
            replica("c", held("clip_l"), held("big"), address=c),
        ),
    )


@pytest.fixture
def replicas() -> Iterator[list[Replica]]:
    shared: dict[str, Any] = {}
    found = [Replica(name, shared) for name in "abc"]
    shared["now"] = fleet(*(one.url for one in found))
    yield found
    for one in found:
        one.shutdown()
        one.server_close()


@pytest.fixture
def gateway(replicas: list[Replica], tmp_path: Path) -> Iterator[str]:
    with nginx.gateway(tmp_path, [one.url.removeprefix("http://") for one in replicas]) as url:
        yield url


def post(gateway: str, prompt: Any, **headers: str) -> Reply:
    return ask(f"{gateway}/prompt", method="POST", body={"prompt": prompt}, headers=headers)


def send(gateway: str, prompt: Any) -> tuple[str, str | None]:
    """Who got it, and what the header says."""
    reply = post(gateway, prompt)
    assert reply.status == 200, reply
    return reply.json["from"], reply.headers.get("X-Replica")


def now(replicas: list[Replica], **fields: Any) -> None:
    """Change the fleet. The gateway remembers nothing, so it counts at once."""
    replicas[0].fleet["now"] = fleet(*(one.url for one in replicas), **fields)


def test_warm(gateway: str) -> None:
    """A prompt goes where all its models are, always, body and all; its header says where that is."""
    assert {("b", "b")} == {send(gateway, prompts.image()) for _ in range(6)}


def test_chinese_name_in_a_folder(gateway: str) -> None:
    """The name of a model is that of its file, without folder and ending."""
    assert ("b", "b") == send(gateway, prompts.load("VAELoader", vae_name="文件夹/模型.safetensors"))


@pytest.mark.parametrize("order", [("unet", "clip", "vae"), ("vae", "clip", "unet"), ("clip", "vae", "unet")])
def test_the_diffusion_model_decides(gateway: str, order: tuple[str, ...]) -> None:
    """Where nobody has all of them, the holder of the diffusion model gets it, whichever node comes first."""
    nodes = {
        "unet": {"class_type": "UNETLoader", "inputs": {"unet_name": "big.safetensors"}},
        "clip": {"class_type": "CLIPLoader", "inputs": {"clip_name": "nobody.safetensors"}},
        "vae": {"class_type": "VAELoader", "inputs": {"vae_name": "模型.safetensors"}},
    }
    assert ("c", "c") == send(gateway, {str(i): nodes[name] for i, name in enumerate(order)})


@pytest.mark.parametrize(
    "prompt", [prompts.load("VAELoader", vae_name="unknown.pt"), {}, [], None, {"1": "no node"}]
)
def test_cold(gateway: str, prompt: Any) -> None:
    """Where nobody has any, or the prompt has none, a ready replica gets it, and the header says which."""
    who, header = send(gateway, prompt)

    assert who == header


def test_not_json(gateway: str, replicas: list[Replica]) -> None:
    """What is not JSON goes nowhere."""
    reply = ask(f"{gateway}/prompt", method="POST", raw=b"{", headers={"Content-Type": "application/json"})

    assert (400, "bad_request") == (reply.status, reply.json["error"]["code"])
    assert not any(one.delivered for one in replicas)


def test_spill_over(gateway: str, replicas: list[Replica]) -> None:
    """A queue that is longer by more than eight: a cold replica gets it. Eight or less: the warm one."""
    now(replicas, queue=8)
    assert {"b"} == {send(gateway, prompts.image())[0] for _ in range(4)}
    now(replicas, queue=9)
    assert "b" not in {send(gateway, prompts.image())[0] for _ in range(4)}


@pytest.mark.parametrize("way", ["header", "query", "cookie"])
def test_a_client_stays(gateway: str, way: str) -> None:
    """Results, pictures and everything else come from the replica that the client names."""
    headers = {"header": {"X-Replica": "c"}, "cookie": {"Cookie": "a=1; replica=c"}, "query": {}}[way]
    query = "?replica=c" if way == "query" else "?x=1"
    for path in ("/history/1", "/view", "/queue", "/", "/api/history/1"):
        reply = ask(f"{gateway}{path}{query}", headers=headers)
        assert ("c", "c") == (reply.json["from"], reply.headers["X-Replica"])
        assert (way == "cookie") == ("Set-Cookie" not in reply.headers)


def test_a_new_client_gets_a_cookie(gateway: str) -> None:
    reply = ask(f"{gateway}/")
    cookie = reply.headers["Set-Cookie"]

    assert f"replica={reply.headers['X-Replica']}; Path=/; HttpOnly; SameSite=Lax" == cookie
    assert {reply.json["from"]} == {
        ask(f"{gateway}/x", headers={"Cookie": cookie.partition(";")[0]}).json["from"] for _ in range(6)
    }


@pytest.mark.parametrize("path", ["/history/1", "/view", "/api/view", "/interrupt"])
@pytest.mark.parametrize(
    "headers", [{"X-Replica": "z"}, {"Cookie": "replica=z"}, {"X-Replica": "http://evil"}]
)
def test_a_replica_that_is_gone(gateway: str, path: str, headers: dict[str, str]) -> None:
    """410, not an empty answer of another one, and the cookie is taken away."""
    reply = ask(f"{gateway}{path}", headers=headers)

    assert (410, "replica_gone") == (reply.status, reply.json["error"]["code"])
    assert "replica=; Path=/; Max-Age=0" == reply.headers["Set-Cookie"]


def test_a_browser_goes_on(gateway: str) -> None:
    """A page whose replica is gone: the next one, with its cookie. Only a header or a query is an order."""
    reply = ask(f"{gateway}/", headers={"Cookie": "replica=z"})
    assert (200, f"replica={reply.json['from']}") == (
        reply.status,
        reply.headers["Set-Cookie"].partition(";")[0],
    )
    assert 410 == ask(f"{gateway}/", headers={"X-Replica": "z"}).status
    assert 410 == post(gateway, prompts.image(), **{"X-Replica": "z"}).status


def test_nobody_named(gateway: str) -> None:
    """A result without a replica is a question to nobody."""
    assert 400 == ask(f"{gateway}/history/1").status


def test_dead(gateway: str, replicas: list[Replica]) -> None:
    """A prompt for a replica that just died goes to another, once; its results are 410."""
    replicas[1].die()
    for _ in range(4):
        who, header = send(gateway, prompts.image())
        assert who == header != "b"

    assert [0, 4] == [len(replicas[1].delivered), len(replicas[0].delivered) + len(replicas[2].delivered)]
    assert 410 == ask(f"{gateway}/history/1", headers={"X-Replica": "b"}).status
    assert 200 == ask(f"{gateway}/", headers={"Cookie": "replica=b"}).status


def test_draining(gateway: str, replicas: list[Replica]) -> None:
    """A replica that refuses a prompt is not the last one.

    If all refuse, so does the gateway, and says when to come again.
    """
    replicas[1].fault = "503"
    replicas[0].fault = "503"
    assert {"c"} == {send(gateway, prompts.image())[0] for _ in range(4)}
    assert 503 == post(gateway, prompts.image(), **{"X-Replica": "b"}).status
    replicas[2].fault = "503"
    reply = post(gateway, prompts.image())

    assert (503, "5") == (reply.status, reply.headers["Retry-After"])


def test_draining_and_dead(gateway: str, replicas: list[Replica]) -> None:
    """The warm one drains and another just died: the last one gets it."""
    replicas[1].fault = "503"
    replicas[0].die()

    assert {"c"} == {send(gateway, prompts.image())[0] for _ in range(6)}


def test_one_delivery(gateway: str, replicas: list[Replica]) -> None:
    """A replica that hangs up with the prompt in its hands: 502, and nobody else gets it."""
    replicas[1].fault = "hang-up"
    reply = post(gateway, prompts.image())

    assert (502, "replica_failed") == (reply.status, reply.json["error"]["code"])
    assert [0, 1, 0] == [len(one.delivered) for one in replicas]


def test_nobody_answers(gateway: str, replicas: list[Replica]) -> None:
    for one in replicas:
        one.die()
    reply = post(gateway, prompts.image())

    assert (503, "no_replica") == (reply.status, reply.json["error"]["code"])


def test_upload(gateway: str, replicas: list[Replica]) -> None:
    """20 MB arrive whole; 17 MB are too much for a prompt."""
    size = 20_000_000
    headers = {"Content-Type": "application/octet-stream", "X-Replica": "c"}

    assert 200 == ask(f"{gateway}/upload/image", method="POST", raw=bytes(size), headers=headers).status
    assert [size] == replicas[2].delivered
    assert 413 == ask(f"{gateway}/prompt", method="POST", raw=bytes(17_000_000), headers=headers).status


@pytest.mark.parametrize(
    "path",
    [
        "/preload",
        "/preload/replicas",
        "/api/preload/locate?model=x",
        "/preload/reload",
        "/free",
        "/api/free",
        "/manager/x",
    ],
)
def test_closed(gateway: str, path: str, replicas: list[Replica]) -> None:
    """Commands and facts about the fleet stay inside."""
    assert 403 == ask(f"{gateway}{path}").status
    assert 403 == ask(f"{gateway}{path}", method="POST", body={}).status
    assert not any(one.delivered for one in replicas)


def test_strange_addresses(gateway: str, replicas: list[Replica]) -> None:
    """An address that is more than host and port is not followed, nor an id that could be another header."""
    shared = replicas[0].fleet
    shared["now"] = Fleet(own=replica("a", held("tiny"), held("clip_l"), address=f"{replicas[1].url}/evil"))
    assert 503 == post(gateway, prompts.image()).status


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no IPv6 here")
def test_ipv6(gateway: str, replicas: list[Replica]) -> None:
    """Clients come by IPv6, and a replica has an IPv6 address; its cookie and its id lead back to it."""
    six = Replica("six", replicas[0].fleet, "::1")
    try:
        replicas[0].fleet["now"] = fleet(*(one.url for one in (replicas[0], six, replicas[2])))
        by_six = gateway.replace("127.0.0.1", "[::1]")
        assert ("six", "b") == send(by_six, prompts.image())
        back = ask(f"{by_six}/history/1", headers={"X-Replica": "b"})
        assert (200, "six") == (back.status, back.json["from"])
    finally:
        six.shutdown()
        six.server_close()


def test_guarded_fleet(replicas: list[Replica], tmp_path: Path) -> None:
    """With `registry.access: token` the gateway sends the token of its file; a new one counts at once."""
    shared = replicas[0].fleet
    shared["now"] = replace(shared["now"], guarded=True)
    token = tmp_path / "token"
    servers = "".join(f"server {one.url.removeprefix('http://')};" for one in replicas)
    settings = re.sub(r"(    server .*\n)+", servers, nginx.EXAMPLE.read_text(encoding="utf-8"))
    settings = settings.replace('token_file { default ""', f"token_file {{ default {token}")
    with nginx.gateway(tmp_path, (), settings=settings) as url:
        for text, status in (("", 503), ("wrong\n", 503), ("s3cret\n", 200)):
            token.write_text(text, encoding="utf-8")
            reply = post(url, prompts.image(), Authorization=BEARER)
            assert status == reply.status, "the client's own header counts for nothing"
    log = (tmp_path / "error.log").read_text(encoding="utf-8")
    assert "/_preload/replicas is 401: the token is missing" in log


def test_the_charts_settings(replicas: list[Replica], tmp_path: Path) -> None:
    """settings.conf as the chart writes it, with the address of its Service put in."""
    from tests.deploy.manifests import chart

    rendered = chart({"gateway": {"enabled": True, "spill": 0}, "redis": {"enabled": True}})
    (held_,) = (m["data"] for m in rendered if m["kind"] == "ConfigMap" and "settings.conf" in m["data"])
    text = held_["settings.conf"].replace(
        "demo-comfyui-preload-replicas.comfyui.svc:8188", replicas[0].url.removeprefix("http://")
    )
    assert {"nginx.conf", "gateway.js", "settings.conf"} == held_.keys()
    for name in ("nginx.conf", "gateway.js"):
        assert (nginx.FILES / name).read_text(encoding="utf-8") == held_[name]
    with nginx.gateway(tmp_path, (), settings=text) as url:
        assert ("b", "b") == send(url, prompts.image())
        assert 403 == ask(f"{url}/free", method="POST", body={}).status
