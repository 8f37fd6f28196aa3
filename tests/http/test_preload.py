"""All there is to know at /preload and its jobs; and what holds for every question."""

from __future__ import annotations

import itertools

import pytest
from aiohttp.test_utils import TestClient, TestServer

from comfy_preload.core.errors import failure
from comfy_preload.core.planning.rows import WarmUpState
from comfy_preload.core.state.snapshot import ModelState, Snapshot, Status
from tests.http.conftest import HALF, STATES, Serve, application
from tests.support.snapshots import BROKEN, UNSTEADY, OpenDoor, full, job, model, snapshot, warm_up

READY_KEYS = ["status", "since", "models", "progress", "failing", "fault"]


@pytest.mark.parametrize("prefix", ["", "/api"], ids=["plain", "api"])
async def test_job(serve: Serve, prefix: str) -> None:
    """A job can be asked for by its id, and reports what became of it."""
    client = await serve(full())
    fresh, over = await client.get(f"{prefix}/preload/jobs/1"), await client.get(f"{prefix}/preload/jobs/2")

    body = await over.json()
    assert [200, 200] == [fresh.status, over.status]
    assert ["queued", None, None, None] == [
        (await fresh.json())[key] for key in ("state", "started", "ended", "error")
    ]
    assert ["release", "m", "failed", ["m"]] == [body[key] for key in ("command", "model", "state", "kept")]
    assert ("2026-11-22T20:39:34Z", "file_empty") == (body["ended"], body["error"]["code"])


async def test_unknown_job(serve: Serve) -> None:
    """An unknown id is 404."""
    reply = await (await serve(full())).get("/preload/jobs/3")

    assert (404, "job_unknown") == (reply.status, (await reply.json())["error"]["code"])


@pytest.mark.parametrize("prefix", ["", "/api"], ids=["plain", "api"])
@pytest.mark.parametrize(("now", "_code"), STATES.values(), ids=STATES)
async def test_preload(serve: Serve, now: Snapshot, _code: int, prefix: str) -> None:
    """/preload is 200 in every state, with all there is to know."""
    reply = await (await serve(now)).get(f"{prefix}/preload")
    body = await reply.json()

    assert (200, "no-store") == (reply.status, reply.headers["Cache-Control"])
    assert {
        *READY_KEYS,
        *(
            "hits",
            "misses",
            "sleeping",
            "prefetch",
            "snapshot",
            "host",
            "warmups",
            "workflows",
            "not_preloaded",
            "jobs",
            "queue_remaining",
        ),
    } == body.keys()
    assert (2 * len(now.models), {"VAELoader": 3}) == (body["hits"], body["misses"])
    assert len(now.models) == len(body["models"]["items"])


async def test_everything(serve: Serve) -> None:
    """Warm-ups, jobs, the queue and reading ahead are reported in /preload."""
    body = await (await (await serve(full())).get("/preload")).json()

    assert [("portrait", "warm", 4.5, None), ("b", "failed", 4.5, "file_empty")] == [
        (row["name"], row["state"], row["seconds"], row["error"] and row["error"]["code"])
        for row in body["warmups"]
    ]
    assert (["512x512, batch 1"], ["float16"]) == (
        body["warmups"][0]["shapes"],
        body["warmups"][0]["dtypes"],
    )
    profile = {"seconds": 4.5, "first": 1.02, "steady": 1.0, "ratio": 1.02}
    assert [{"shape": "512x512, batch 1", "state": "warm", **profile}] == body["warmups"][0]["profiles"]
    served = {"prompts": 2, "first": 2.5, "last": 1.5, "median": 1.5}
    assert [{"name": "w.json", "served": served, "last_miss": "UNETLoader: file: new"}] == body["workflows"]
    (left,) = body["not_preloaded"]
    assert ("w.json", "12:3", "LoraLoader") == (left["workflow"], left["node"], left["loader"])
    assert 1 == body["models"]["not_preloaded"]
    assert ["1", "2"] == [row["id"] for row in body["jobs"]]
    assert (3, 70) == (body["queue_remaining"], body["prefetch"]["bytes"])


async def test_last_jobs(serve: Serve) -> None:
    """/preload lists the last ten jobs; older ones are there all the same."""
    client = await serve(snapshot(Status.READY, jobs=tuple(job(str(i)) for i in range(100))))

    assert [str(i) for i in range(90, 100)] == [
        row["id"] for row in (await (await client.get("/preload")).json())["jobs"]
    ]
    assert 200 == (await client.get("/preload/jobs/0")).status


async def test_failed_warm_up(serve: Serve) -> None:
    """A warm-up that failed stands among what fails."""
    failed = warm_up("portrait", WarmUpState.FAILED, problems=(BROKEN,))
    body = await (
        await (await serve(snapshot(Status.FAILED, model(), warmups=(failed,)))).get("/ready")
    ).json()

    assert "file_empty" == body["failing"]["portrait"]["code"]


async def test_degraded_warm_up(serve: Serve) -> None:
    """A warm-up after which the first prompt is slow is named with its figure, and serves."""
    slow = warm_up("portrait", WarmUpState.DEGRADED, problems=(UNSTEADY,))
    reply = await (await serve(snapshot(Status.DEGRADED, model(), warmups=(slow,)))).get("/ready")
    body = await reply.json()

    assert (200, "warmup_unsteady") == (reply.status, body["failing"]["portrait"]["code"])
    assert "1.31 times" in body["failing"]["portrait"]["message"]


async def test_workflow_without_a_warm_up(serve: Serve) -> None:
    """One that cannot be read stands among what fails, and is not a warm-up that failed."""
    unread = warm_up("portrait", WarmUpState.FAILED, problems=(BROKEN,), requested=False)
    client = await serve(snapshot(Status.FAILED, model(), warmups=(unread,)))
    body = await (await client.get("/preload")).json()

    assert ("file_empty", []) == (body["failing"]["portrait"]["code"], body["warmups"])


async def test_host(serve: Serve) -> None:
    """The host's facts are reported as soon as they are known."""
    client = await serve(snapshot())

    versions = {"comfyui": "0.3.75", "python": "3.11.7", "torch": "2.14.1", "plugin": "0.1.0"}
    expected = {**versions, "device": "cuda:0 A100"}
    assert expected == (await (await client.get("/preload")).json())["host"]


@pytest.mark.parametrize("path", ["/ready?verbose", "/ready/x", "/preload"])
async def test_no_path(serve: Serve, path: str) -> None:
    """No body has a path in it, whatever a loader said."""
    said = failure("L", OSError(13, "Permission denied", "/srv/secret/models/a.safetensors"))
    reply = await (await serve(snapshot(Status.FAILED, model("x", ModelState.FAILED, problems=(said,))))).get(
        path
    )
    text = await reply.text()

    assert "Permission denied: 'a.safetensors'" in text
    assert "secret" not in text


async def test_asked_anew() -> None:
    """Every question takes one snapshot of its own."""
    asked: list[None] = []

    def count() -> Snapshot:
        asked.append(None)
        return snapshot(Status.READY, model())

    async with TestClient(TestServer(application(count, OpenDoor()))) as client:
        for path in ("/ready", "/ready?verbose", "/ready/sdxl", "/preload", "/livez", "/preload/metrics"):
            await client.get(path)

    assert 6 == len(asked)


async def test_ten_thousand_probes(serve: Serve) -> None:
    """However often it is asked, /ready answers."""
    client = await serve(snapshot(Status.LOADING, *(model(f"m{i}") for i in range(10)), progress=HALF))
    codes = {(await client.get("/ready")).status for _ in itertools.repeat(None, 10_000)}

    assert {503} == codes


async def test_explain(serve: Serve) -> None:
    """A prompt that is over, one that runs, and one that nobody knows."""
    client = await serve(full())
    over, runs = [await (await client.get(f"/preload/explain/{one}")).json() for one in ("1", "2")]
    unknown = await client.get("/preload/explain/3")

    running = {"id": "2", "state": "running", "seconds": None, "waited": None, "workflow": None}
    assert {**running, "loaders": []} == runs
    assert ("w.json", 1000) == (over["workflow"], over["loaders"][0]["uploaded"])
    assert ("done", 2.5, 0.1) == (over["state"], over["seconds"], over["waited"])
    message = "weight_dtype is default, planned fp8_e4m3fn"
    miss = {"loader": "UNETLoader", "model": "m", "result": "miss", "reason": "input", "message": message}
    assert {**miss, "uploaded": None} == over["loaders"][1]
    assert (404, "prompt_unknown") == (unknown.status, (await unknown.json())["error"]["code"])
