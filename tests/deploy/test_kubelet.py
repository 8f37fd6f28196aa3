"""A pod's life by the rendered numbers, with a real ComfyUI in it.

No kill while it loads, no early traffic, no lost prompt.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy import manifests
from tests.deploy.kubelet import Kubelet
from tests.deploy.manifests import Manifest, chart, container, pod
from tests.support import prompts
from tests.support.comfy import ComfyServer, free_port
from tests.support.fork_server import is_cold
from tests.support.readings import CUSTOM_NODES, hits
from tools.host import comfyui_path, comfyui_python

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to handle")

PACE = 0.1
"""All numbers of the manifest, and `drain` and `timeout` in preload.yaml, are a tenth of what they say."""
FACTS = {"importSeconds": 150, "modelBytes": 24_000_000_000, "storageSpeed": 500_000_000, "warmupSeconds": 30}
UNET = prompts.load("UNETLoader", unet_name="tiny.safetensors", weight_dtype="default")


Run = Callable[..., AbstractContextManager[tuple[Kubelet, ComfyServer]]]


def values(**preload: Any) -> dict[str, Any]:
    """For the chart. What does not get faster by our pace is allowed for: ComfyUI's imports, and its end."""
    return {**FACTS, "preload": {"probe": {"port": free_port()}, "drain": 100, **preload}}


def settings(rendered: list[Manifest]) -> str:
    """The preload.yaml of the ConfigMap, at our pace."""
    text = yaml.safe_load(manifests.settings(rendered))
    return yaml.safe_dump({**text, "drain": text["drain"] * PACE, "timeout": text["timeout"] * PACE})


@pytest.fixture
def run(request: pytest.FixtureRequest, models: Path, tmp_path: Path) -> Run:
    """Play the kubelet for a ComfyUI that has a folder of nodes for tests beside the plugin."""

    @contextmanager
    def running(
        rendered: list[Manifest], nodes: str, lag: float = 0.0
    ) -> Iterator[tuple[Kubelet, ComfyServer]]:
        own = {name: CUSTOM_NODES / name for name in (nodes, "sink")}
        server = ComfyServer(
            tmp_path,
            host=comfyui_path(),
            python=comfyui_python(),
            preload=settings(rendered),
            models=models,
            custom_nodes=own,
            forked=not is_cold(request),
        )
        ports = {"http": server.port, "probe": container(rendered)["ports"][1]["containerPort"]}
        try:
            with Kubelet(pod(rendered), server, ports, pace=PACE, lag=lag) as kubelet:
                kubelet.wait("container started", 10)
                yield kubelet, server
        finally:
            server.stop()

    return running


class Clients(threading.Thread):
    """Send prompts for as long as the pod gets traffic, and fetch every result."""

    def __init__(self, kubelet: Kubelet, server: ComfyServer) -> None:
        super().__init__(daemon=True)
        self.accepted: list[str] = []
        self.lost: list[str] = []
        self.fetched = 0
        self._sending = True
        self._kubelet = kubelet
        self._server = server

    def run(self) -> None:
        collector = threading.Thread(target=self._collect, daemon=True)
        while not self._kubelet.gets_traffic:
            time.sleep(0.001)
        collector.start()
        number = 0
        while self._kubelet.gets_traffic:
            number += 1
            try:
                self.accepted.append(self._server.queue(UNET if number % 2 else prompts.unrelated(number)))
            except Exception as error:  # noqa: BLE001 — whatever it is, a user's prompt is lost
                self.lost.append(f"not accepted: {error!r}")
            time.sleep(0.05)
        self._sending = False
        collector.join()

    def _collect(self) -> None:
        while self._sending or self.fetched + len(self.lost) < len(self.accepted):
            if self.fetched == len(self.accepted):
                time.sleep(0.01)
                continue
            try:
                self._server.result(self.accepted[self.fetched], 30)
                self.fetched += 1
            except Exception as error:  # noqa: BLE001 — as above
                self.lost.append(f"not fetched: {error!r}")
                return


@pytest.mark.cold
def test_a_pod_from_start_to_end(run: Run) -> None:
    """A slow load is not killed and gets no traffic; then prompts come without a pause until the pod is gone.

    None is lost.
    """
    models = [
        {"unet": "tiny.safetensors"},
        {"loader": "TestGateLoader", "inputs": {"gate": "open"}, "name": "slow"},
    ]
    rendered = chart(values(models=models))
    liveness = container(rendered)["livenessProbe"]
    patience = liveness["periodSeconds"] * liveness["failureThreshold"] * PACE

    with run(rendered, "loaders", lag=2.5 * PACE) as (kubelet, server):
        clients = Clients(kubelet, server)
        clients.start()
        server.wait(lambda: "waiting at gate open" in server.log, "at the gate", deadline=60)
        time.sleep(patience)  # a liveness probe that asked ComfyUI's port would have killed it by now
        assert ["container started"] == kubelet.story
        assert [] == clients.accepted
        (server.base / "input" / "open").touch()
        kubelet.wait("in the endpoints", 10)
        server.wait(lambda: clients.fetched > 5, "serving", deadline=30)
        assert hits(server)["tiny"] > 0, "the first prompt found it loaded"

        held = server.queue(prompts.load("TestGateLoader", gate="late", heeds_cancel=False))
        server.wait(lambda: "waiting at gate late" in server.log, "at the second gate", deadline=30)
        kubelet.delete()
        kubelet.wait("SIGTERM", 20)
        before = len(clients.accepted) - clients.fetched
        (server.base / "input" / "late").touch()
        server.result(held)
        clients.join(30)
        kubelet.join(30)

    assert not clients.is_alive()
    assert before > 0, "prompts were waiting when SIGTERM came"
    assert ([], len(clients.accepted)) == (clients.lost, clients.fetched)
    assert [
        *("container started", "startup probe succeeded", "in the endpoints"),
        *("out of the endpoints", "ending it: the pod is deleted", "SIGTERM", "container ended with 0: "),
    ] == kubelet.story


def test_a_model_fails(run: Run) -> None:
    """`on_error: exit`, the chart's own.

    The container ends with 70 and the reason, long before the kubelet would give up.
    """
    rendered = chart(values(models=[{"vae": "nowhere.safetensors"}]))
    with run(rendered, "loaders") as (kubelet, _):
        at = kubelet.wait("container ended with 70: ", 60)
        kubelet.wait("container started", 5)
        while kubelet.restarts == 0 or kubelet.story.count("container started") < 2:
            time.sleep(0.01)
            assert kubelet.events[-1].at < at + 10
    ended = next(what for what in kubelet.story if what.startswith("container ended"))

    assert "nowhere.safetensors is in none of" in ended
    assert not {"SIGTERM", "in the endpoints"} & set(kubelet.story)


def test_the_device_fails(run: Run) -> None:
    """/livez is 503: out of the endpoints first, and started again."""
    rendered = chart(values(models=[{"unet": "tiny.safetensors"}], drain=200))
    with run(rendered, "faults") as (kubelet, server):
        kubelet.wait("in the endpoints", 60)
        words = "CUDA error: an illegal memory access was encountered"
        server.queue({"1": {"class_type": "TestDeviceError", "inputs": {"words": words}}})
        killed = kubelet.wait("ending it: liveness probe failed: HTTP 503", 30)
        kubelet.wait("container ended with 0", 60)
        while kubelet.story.count("container started") < 2:
            time.sleep(0.01)
    left = kubelet.happened("out of the endpoints")

    assert left is not None
    assert left < killed
    assert 1 == kubelet.restarts
    assert "SIGKILL" not in kubelet.story


def test_a_server_hangs(run: Run) -> None:
    """Its event loop is blocked for ever: no traffic first, then a new one; it does not hear SIGTERM.

    The time-out of a probe is not shortened by our pace, so it is a value of this test.
    """
    given = values(models=[{"unet": "tiny.safetensors"}], drain=50)
    rendered = chart({**given, "livenessProbe": {"timeoutSeconds": 3}})
    with run(rendered, "hang") as (kubelet, server):
        kubelet.wait("in the endpoints", 60)
        threading.Thread(target=_blocked, args=(server,), daemon=True).start()
        killed = kubelet.wait("ending it: liveness probe failed", 60)
        kubelet.wait("SIGKILL", 30)
        while kubelet.story.count("in the endpoints") < 2:
            time.sleep(0.01)
    left = kubelet.happened("out of the endpoints")

    assert left is not None
    assert left < killed
    assert 1 == kubelet.restarts


def _blocked(server: ComfyServer) -> None:
    """Ask what blocks the event loop; there is no answer before the process is killed."""
    with suppress(OSError):
        server.get("/test/block")
