"""The kubelet that is played: one that never kills would prove nothing.

A process that costs nothing, at fifty times the pace.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.deploy.kubelet import Kubelet
from tests.deploy.manifests import chart, pod
from tests.support.comfy import free_port

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to handle")

FAST = 0.02
STUB = """
import http.server, os, signal, sys
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if os.path.exists(self.path.strip("/")) else 503)
        self.end_headers()
if "stubborn" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Answer).serve_forever()
"""


class Stub:
    """A process that answers 200 to a path if there is a file of that name."""

    log = ""

    def __init__(self, folder: Path, *words: str) -> None:
        self.port = free_port()
        self._words = words
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def exit_code(self) -> int | None:
        return self._process.poll() if self._process else None

    def start(self) -> None:
        command = [sys.executable, "-c", STUB, str(self.port), *self._words]
        self._process = subprocess.Popen(command, cwd=self._folder, stderr=subprocess.DEVNULL)

    def kill(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()


@pytest.fixture
def stub(tmp_path: Path) -> Iterator[Callable[..., tuple[Kubelet, Stub]]]:
    stubs: list[Stub] = []

    def make(*words: str) -> tuple[Kubelet, Stub]:
        one = Stub(tmp_path, *words)
        stubs.append(one)
        return Kubelet(pod(chart()), one, {"probe": one.port, "http": one.port}, pace=FAST), one

    yield make
    for one in stubs:
        one.kill()


def test_kubelet_kills_what_does_not_start(stub: Callable[..., tuple[Kubelet, Stub]]) -> None:
    """Never ready: killed when the budget is used up, not before, and started again."""
    kubelet, _ = stub()
    with kubelet:
        at = kubelet.wait("ending it: startup probe failed: HTTP 503", 20)
        kubelet.wait("container ended with -15", 10)

    assert 196 * FAST <= at
    assert 1 == kubelet.restarts


def test_kubelet_kills_what_does_not_end(tmp_path: Path, stub: Callable[..., tuple[Kubelet, Stub]]) -> None:
    """SIGTERM is ignored: SIGKILL after the grace period, which begins before preStop."""
    (tmp_path / "ready").touch()
    (tmp_path / "livez").touch()
    kubelet, _ = stub("stubborn")
    with kubelet:
        kubelet.wait("in the endpoints", 10)
        kubelet.delete()
        kubelet.join(10)
    began, term, kill = (kubelet.happened(what) for what in ("ending it", "SIGTERM", "SIGKILL"))

    assert began is not None
    assert term is not None
    assert kill is not None
    assert 5 * FAST <= term - began
    assert 40 * FAST <= kill - began
    assert "container ended with -9: " == kubelet.story[-1]


def test_kubelet_follows_readiness(tmp_path: Path, stub: Callable[..., tuple[Kubelet, Stub]]) -> None:
    """In and out of the endpoints as /ready says, without a restart; one failure is not enough."""
    (tmp_path / "ready").touch()
    (tmp_path / "livez").touch()
    kubelet, _ = stub()
    with kubelet:
        kubelet.wait("in the endpoints", 10)
        (tmp_path / "ready").unlink()
        kubelet.wait("out of the endpoints", 10)
        (tmp_path / "ready").touch()
        while kubelet.story.count("in the endpoints") < 2:
            time.sleep(0.01)

    assert 0 == kubelet.restarts
    assert [
        "container started",
        "startup probe succeeded",
        "in the endpoints",
        "out of the endpoints",
        "in the endpoints",
    ] == kubelet.story
