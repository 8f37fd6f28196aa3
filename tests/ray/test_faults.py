"""What is lost when something dies, and what comes back.

Nothing is run twice, and everyone who waits hears of it.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.ray.cluster import Cluster, nap
from tests.ray.conftest import set_of
from tests.support.reply import Reply

SET = "serve_multiplexed_model_id"
SETS = {"sets": {name: set_of(number) for number, name in enumerate("abc")}}


@pytest.fixture
def users() -> Iterator[ThreadPoolExecutor]:
    """Threads for those who wait."""
    with ThreadPoolExecutor(20) as pool:
        yield pool


def run(cluster: Cluster, mark: str, seconds: float, name: str = "a") -> Reply:
    return cluster.post("/run", {"prompt": nap(mark, seconds)}, {SET: name})


def begin(
    cluster: Cluster, users: ThreadPoolExecutor, mark: str, seconds: float
) -> tuple[Future[Reply], str]:
    """A prompt that runs, another that its replica has accepted and that waits for it.

    The answer to come, the id.
    """
    running = users.submit(run, cluster, mark, seconds)
    cluster.wait(lambda: mark in cluster.naps, "the prompt runs")
    waiting = cluster.post("/prompt", {"prompt": nap(f"{mark}-waits", 0.0)}, {SET: "a"})
    assert 200 == waiting.status
    return running, waiting.json["prompt_id"]


def assert_lost(cluster: Cluster, running: Future[Reply], waiting: str, why: str) -> None:
    """Both are answered, and neither runs anywhere else."""
    reply = running.result(90)
    assert (502, "prompt_lost") == (reply.status, reply.json["error"]["type"])
    assert why in reply.json["error"]["message"]
    cluster.wait(lambda: bool(cluster.get(f"/history/{waiting}").json), "the other one has an entry")
    status = cluster.get(f"/history/{waiting}").json[waiting]["status"]
    assert ("error", "execution_error") == (status["status_str"], status["messages"][0][0])


@pytest.mark.parametrize(("what", "why"), [("ComfyUI", "signal 9"), ("replica", "its replica ended")])
def test_killed_in_a_prompt(cluster: Cluster, users: ThreadPoolExecutor, what: str, why: str) -> None:
    """What it had is lost and said so.

    What nobody had accepted is run by another; Serve starts a new replica.
    """
    tag, other = cluster.holder("a"), cluster.holder("b")
    mark = f"killed-{what}"
    running, waiting = begin(cluster, users, mark, 60.0)
    (comfyui,) = cluster.comfyuis(tag)
    parent = int(Path(f"/proc/{comfyui}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[1])
    assert parent in cluster.actors("Comfy")

    os.kill(comfyui if what == "ComfyUI" else parent, signal.SIGKILL)  # ours, started for this test

    after = [users.submit(run, cluster, f"{mark}-{i}", 0.0) for i in range(6)]
    assert_lost(cluster, running, waiting, why)
    assert {200} == {one.result(90).status for one in after}
    assert {other} >= {one.result().headers["x-replica"] for one in after[:1]}
    now = cluster.wait_replicas(2, but=[tag])
    assert other in now
    naps = [name for name in cluster.naps if name.startswith(mark)]
    assert sorted(naps) == sorted({mark, *(f"{mark}-{i}" for i in range(6))})
    assert not cluster.comfyuis(tag)


def test_hangs_in_a_prompt(cluster: Cluster, users: ThreadPoolExecutor) -> None:
    """After prompt_timeout_s it is interrupted; ComfyUI does not heed that, so its replica is replaced."""
    tag = cluster.holder("a")
    running, waiting = begin(cluster, users, "hangs", 600.0)

    assert_lost(cluster, running, waiting, "ended after 6 s")
    cluster.wait_replicas(2, but=[tag])
    assert ["hangs"] == [name for name in cluster.naps if name.startswith("hangs")]


def test_front_killed(cluster: Cluster) -> None:
    """Serve starts the front again; a prompt that was accepted runs on, once, and its id is answered."""
    cluster.wait_replicas(2)
    prompt_id = cluster.post("/prompt", {"prompt": nap("front", 3.0)}, {SET: "a"}).json["prompt_id"]
    cluster.wait(lambda: "front" in cluster.naps, "the prompt runs")
    (front,) = cluster.actors("Front")

    os.kill(front, signal.SIGKILL)  # ours, started for this test

    cluster.wait(lambda: cluster.actors("Front") not in ([], [front]), "Serve has started the front again")
    cluster.wait_replicas(2)
    cluster.wait(lambda: bool(cluster.get(f"/history/{prompt_id}").json), "the prompt is done")
    assert "success" == cluster.get(f"/history/{prompt_id}").json[prompt_id]["status"]["status_str"]
    assert 1 == cluster.naps.count("front")


def test_drain(cluster: Cluster, users: ThreadPoolExecutor) -> None:
    """With one replica less, prompts that run or wait are finished, and their results can be fetched."""
    before = cluster.wait_replicas(2)
    sent = [users.submit(run, cluster, f"drain-{i}", 1.0, "ab"[i % 2]) for i in range(8)]
    cluster.wait(lambda: sum(name.startswith("drain-") for name in cluster.naps) >= 2, "both are at work")

    cluster.serve(SETS, replicas=1, prompt_timeout_s=6.0, wait=False)

    assert {200} == {one.result(90).status for one in sent}
    assert 8 == len([name for name in cluster.naps if name.startswith("drain-")])
    (left,) = cluster.wait_replicas(1)
    assert left in before
    cluster.wait(lambda: len(cluster.comfyuis()) == 1, "the other's ComfyUI has ended")


def test_does_not_start(cluster: Cluster) -> None:
    """The reason that /ready has is in Serve's status."""
    cluster.serve({"sets": {"a": {"models": [{"unet": "absent.safetensors"}]}}}, wait=False)

    cluster.wait(lambda: "DEPLOY_FAILED" in cluster.status(), "Serve has given up", deadline=120)
    status = cluster.status()
    assert "/ready: absent: absent.safetensors is in none of the" in status


def test_head_restarted(cluster: Cluster, users: ThreadPoolExecutor) -> None:
    """After a power cut nothing of the old replicas is left.

    Their ids are answered; a request is held for the first replica.
    """
    old = "00000000-0000-4000-8000-000000000000"
    cluster.stop()

    cluster.start_head()
    scaling = {"min_replicas": 0, "initial_replicas": 0, "max_replicas": 2, "upscale_delay_s": 0.5}
    cluster.serve(
        SETS, deployments={"Comfy": {"num_replicas": "auto", "autoscaling_config": scaling}}, wait=False
    )
    cluster.wait(lambda: _answers(cluster), "the front answers", deadline=90)
    ready = cluster.get("/ready")
    assert (503, "5") == (ready.status, ready.headers["retry-after"])

    reply = users.submit(run, cluster, "held", 0.0).result(120)

    assert 200 == reply.status
    cluster.wait(lambda: cluster.get(f"/history/{old}").status == 200, "all replicas are known")
    assert "error" == cluster.get(f"/history/{old}").json[old]["status"]["status_str"]


def _answers(cluster: Cluster) -> bool:
    try:
        return cluster.get("/ready").status == 503
    except OSError:
        return False
