"""What is answered, for every state: code, headers, body.

Served by a bare aiohttp application, as in ComfyUI.
"""

from __future__ import annotations

from urllib.parse import quote

import pytest
from yarl import URL

from comfy_preload.core.errors import problem
from comfy_preload.core.state.snapshot import ModelState, Progress, Snapshot, Status
from tests.http.conftest import STATES, Serve
from tests.support.snapshots import BROKEN, full, model, snapshot

READY_KEYS = ["status", "since", "models", "progress", "failing", "fault"]
ROW_KEYS = [
    *("name", "kind", "loader", "required", "state", "device", "bytes", "bytes_on_device", "seconds"),
    *("hits", "evictions", "served", "last_miss", "warm_for", "error"),
]


@pytest.mark.parametrize("prefix", ["", "/api"], ids=["plain", "api"])
@pytest.mark.parametrize(("now", "code"), STATES.values(), ids=STATES)
async def test_ready(serve: Serve, now: Snapshot, code: int, prefix: str) -> None:
    """/ready is 200 exactly if traffic is wanted; the body has the same keys in every state."""
    reply = await (await serve(now)).get(f"{prefix}/ready")
    body = await reply.json()

    assert (code, now.status.value) == (reply.status, body["status"])
    assert READY_KEYS == list(body)
    assert ["total", "ready", "failed", "not_preloaded"] == list(body["models"])
    fault = now.fault or now.unresponsive
    assert (fault and fault.code) == (body["fault"] and body["fault"]["code"])
    assert ["fraction", "bytes", "bytes_total", "seconds", "eta"] == list(body["progress"])
    assert "2026-11-22T20:39:34Z" == body["since"]
    assert "no-store" == reply.headers["Cache-Control"]
    assert "application/json" == reply.content_type
    assert (code == 503) is ("Retry-After" in reply.headers)


async def test_stages(serve: Serve) -> None:
    """Only `?stages` adds the stages of the start, in every state the same keys."""
    client = await serve(full(Status.LOADING))
    plain = await (await client.get("/ready")).json()
    body = await (await client.get("/ready?stages")).json()

    seconds = dict.fromkeys(["starting", "importing", "reading", "loading", "pushing", "warming"], 1.235)
    free = {"host": 50_000_000_000, "device": 20_000_000_000}
    expected = {"stage": "loading", "total": 7.407, "left": 8.9, "seconds": seconds, "free": free}
    assert {**plain, "startup": expected} == body
    unknown = await (await (await serve(snapshot(Status.STARTING))).get("/ready?verbose&stages=")).json()
    assert list(expected) == list(unknown["startup"])
    assert ("starting", None) == (unknown["startup"]["stage"], unknown["startup"]["left"])
    assert {"host": None, "device": None} == unknown["startup"]["free"]


def test_every_status() -> None:
    """The table of states leaves no status out."""
    assert set(Status) == {now.status for now, _ in STATES.values()}


@pytest.mark.parametrize(
    "path",
    [
        *(
            "/ready",
            "/ready/sdxl",
            "/ready/nobody",
            "/livez",
            "/preload",
            "/preload/metrics",
            "/preload/jobs/nobody",
        ),
        *("/v2/health/live", "/v2/health/ready", "/v2/models/sdxl/ready", "/v2/models/nobody/ready"),
    ],
)
@pytest.mark.parametrize(("now", "_code"), STATES.values(), ids=STATES)
async def test_head(serve: Serve, now: Snapshot, _code: int, path: str) -> None:
    """HEAD answers as GET does, without the body."""
    client = await serve(now)
    get, head = await client.get(path), await client.head(path)

    assert get.status == head.status
    if path != "/preload/metrics":  # which shows the time
        assert get.headers["Content-Length"] == head.headers["Content-Length"]
    assert (b"", get.headers.get("Retry-After")) == (await head.read(), head.headers.get("Retry-After"))


@pytest.mark.parametrize("path", ["/ready", "/ready/sdxl", "/livez", "/preload", "/v2/health/ready"])
async def test_options(serve: Serve, path: str) -> None:
    """Answers which methods there are, as on the port of its own, and nothing of the state."""
    said = await (await serve(snapshot(status=Status.FAILED))).options(path)

    assert (200, "GET, HEAD, OPTIONS", b"") == (said.status, said.headers["Allow"], await said.read())


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize(
    "path", ["/ready", "/ready/sdxl", "/livez", "/preload", "/preload/metrics", "/v2/health/ready"]
)
async def test_nothing_to_change(serve: Serve, method: str, path: str) -> None:
    """These routes answer questions and take no orders."""
    assert 405 == (await (await serve(snapshot())).request(method, path)).status


@pytest.mark.parametrize(
    ("eta", "seconds"),
    [(None, "5"), (0.0, "5"), (0.2, "1"), (8.9, "9"), (60.0, "60"), (86_400.0, "60")],
    ids=["unknown", "none", "soon", "rounded-up", "a-minute", "at-most-a-minute"],
)
async def test_retry_after(serve: Serve, eta: float | None, seconds: str) -> None:
    """Retry-After is the time to go, between 1 and 60 seconds; 5 if it is not known."""
    progress = Progress(bytes=1, bytes_total=2, fraction=0.5, seconds=1.0, eta=eta)
    reply = await (await serve(snapshot(Status.LOADING, progress=progress))).get("/ready")

    assert seconds == reply.headers["Retry-After"]


async def test_counts(serve: Serve) -> None:
    """`ready` counts the models that need no file any more, wherever they are."""
    rows = [model(state.value, state) for state in ModelState]
    body = await (await (await serve(snapshot(Status.FAILED, *rows))).get("/ready")).json()

    assert {"total": len(ModelState), "ready": 4, "failed": 1, "not_preloaded": 0} == body["models"]
    assert ["failed"] == list(body["failing"])


async def test_failing(serve: Serve) -> None:
    """What fails stands under its name with code, message, hint and line; the settings file under its own."""
    wrong = problem("yaml_too_large", found="a bomb", expected="less")
    now = snapshot(Status.FAILED, model("b", ModelState.FAILED), problems=(wrong,))
    body = await (await (await serve(now)).get("/ready")).json()

    expected = {"code": "file_empty", "message": "a.safetensors is empty", "hint": BROKEN.hint, "line": 3}
    assert expected == body["failing"]["b"]
    assert ("yaml_too_large", None) == (
        body["failing"]["preload.yaml"]["code"],
        body["failing"]["preload.yaml"]["line"],
    )


async def test_several_problems(serve: Serve) -> None:
    """Several problems of one model are reported in one message, under the code of the first."""
    two = (problem("input_missing", loader="L", input="a"), BROKEN)
    now = snapshot(Status.FAILED, model("b", ModelState.FAILED, problems=two))
    error = (await (await (await serve(now)).get("/ready")).json())["failing"]["b"]

    assert ("input_missing", "L needs the input 'a'; a.safetensors is empty") == (
        error["code"],
        error["message"],
    )


async def test_a_thousand_problems(serve: Serve) -> None:
    """A file that is wrong in a thousand places reports the first ten."""
    many = tuple(problem("file_empty", file=f"f{i}") for i in range(1000))
    body = await (await (await serve(snapshot(Status.FAILED, problems=many))).get("/ready")).json()

    assert body["failing"]["preload.yaml"]["message"].endswith("; f9 is empty; and 990 more")


async def test_more_than_a_hundred_failing(serve: Serve) -> None:
    """A hundred are listed, the file's own problems first; all are counted."""
    rows = [model(f"m{i}", ModelState.FAILED) for i in range(250)]
    body = await (
        await (await serve(snapshot(Status.FAILED, *rows, problems=(BROKEN,)))).get("/ready")
    ).json()

    assert (100, 250) == (len(body["failing"]), body["models"]["failed"])
    assert ["preload.yaml", "m0", "m1"] == list(body["failing"])[:3]


@pytest.mark.parametrize("query", ["?verbose", "?verbose=1", "?verbose=true&x=y"])
async def test_verbose(serve: Serve, query: str) -> None:
    """`?verbose` adds one row for each model, and changes nothing else."""
    client = await serve(STATES["failed"][0])
    plain, verbose = (
        await (await client.get("/ready")).json(),
        await (await client.get(f"/ready{query}")).json(),
    )

    rows = verbose["models"].pop("items")
    assert plain == verbose
    assert [ROW_KEYS, ROW_KEYS] == [list(row) for row in rows]
    assert ["sdxl", "b"] == [row["name"] for row in rows]
    assert {"read": None, "load": 1.235, "move": None, "warm": None} == rows[0]["seconds"]
    assert [1, 1] == [row["evictions"] for row in rows]
    assert [None, "file_empty"] == [row["error"] and row["error"]["code"] for row in rows]


@pytest.mark.parametrize("state", ModelState, ids=lambda s: s.value)
async def test_model(serve: Serve, state: ModelState) -> None:
    """/ready/{name} is 200 exactly if the model needs no file any more; `state` says where it is."""
    reply = await (await serve(snapshot(Status.LOADING, model("other"), model("it", state)))).get("/ready/it")
    body = await reply.json()

    there = state in (ModelState.RESIDENT, ModelState.STAGED, ModelState.EVICTED, ModelState.WARM)
    assert (200 if there else 503, "ready" if there else state.value) == (reply.status, body["status"])
    assert ["status", *ROW_KEYS] == list(body)
    assert ("it", state.value) == (body["name"], body["state"])
    assert "no-store" == reply.headers["Cache-Control"]
    assert (not there) is ("Retry-After" in reply.headers)


@pytest.mark.parametrize(
    "name",
    [
        "sd_xl_base_1.0",
        "模型 ä",
        "50% off",
        "a b",
        "a?b#c&d=e",
        "a%2Fb",
        "clip_l+t5",
        "..a",
        "models[0]",
        "'\";<b>",
    ],
)
async def test_odd_names(serve: Serve, name: str) -> None:
    """Any name but one with '/' can be asked for, percent-encoded."""
    reply = await (await serve(snapshot(Status.READY, model(name)))).get(f"/ready/{quote(name, safe='')}")

    assert (200, name) == (reply.status, (await reply.json())["name"])


@pytest.mark.parametrize("prefix", ["", "/api"], ids=["plain", "api"])
async def test_unknown_model(serve: Serve, prefix: str) -> None:
    """An unknown name is 404, and the answer lists the known ones."""
    reply = await (await serve(snapshot(Status.READY, model("a"), model("b")))).get(f"{prefix}/ready/nobody")

    assert (404, "no-store") == (reply.status, reply.headers["Cache-Control"])
    body = await reply.json()
    assert ("unknown", ["a", "b"]) == (body["status"], body["models"])
    assert {"code", "message", "hint"} == body["error"].keys()
    assert ("model_unknown", "unknown model 'nobody'; the settings have 2") == (
        body["error"]["code"],
        body["error"]["message"],
    )


async def test_unknown_among_many(serve: Serve) -> None:
    """No more than a hundred names are listed."""
    reply = await (await serve(snapshot(Status.READY, *(model(f"m{i}") for i in range(500))))).get(
        "/ready/nobody"
    )

    assert 100 == len((await reply.json())["models"])


@pytest.mark.parametrize(
    "name", ["m" * 5000, "%00", "%ff%fe", "%0d%0aX-Injected:%201", "%F0%9F%A6%86", "%2e%2e%2f", "%7Bname%7D"]
)
async def test_absurd_names(serve: Serve, name: str) -> None:
    """Any other name is unknown, and is repeated in part at most; nothing of it gets into a header."""
    client = await serve(snapshot(Status.READY, *(model(f"m{i}") for i in range(100))))
    reply = await client.get(URL(f"/ready/{name}", encoded=True))

    assert 404 == reply.status
    assert "X-Injected" not in reply.headers
    assert len((await reply.json())["error"]["message"]) < 300


@pytest.mark.parametrize("prefix", ["", "/api"], ids=["plain", "api"])
@pytest.mark.parametrize(("now", "_code"), STATES.values(), ids=STATES)
async def test_livez(serve: Serve, now: Snapshot, _code: int, prefix: str) -> None:
    """The process lives in every state but one.

    A restart would not mend a missing file, it does mend a lost device.
    """
    reply = await (await serve(now)).get(f"{prefix}/livez")
    body = await reply.json()

    assert ((503, "dead") if now.fault else (200, "alive")) == (reply.status, body["status"])
    assert (now.fault and now.fault.code) == (body["fault"] and body["fault"]["code"])
    assert "no-store" == reply.headers["Cache-Control"]


@pytest.mark.parametrize("prefix", ["", "/api"], ids=["plain", "api"])
@pytest.mark.parametrize(("now", "code"), STATES.values(), ids=STATES)
async def test_kserve(serve: Serve, now: Snapshot, code: int, prefix: str) -> None:
    """The Open Inference Protocol's aliases have the codes of /livez and /ready, and its bodies."""
    client = await serve(now)
    live, ready = await client.get(f"{prefix}/v2/health/live"), await client.get(f"{prefix}/v2/health/ready")

    assert (now.alive, {"live": now.alive}) == (live.status == 200, await live.json())
    assert (code, {"ready": code == 200}) == (ready.status, await ready.json())
    assert (code == 503) is ("Retry-After" in ready.headers)


@pytest.mark.parametrize("state", ModelState, ids=lambda s: s.value)
async def test_kserve_model(serve: Serve, state: ModelState) -> None:
    """So does that of one model."""
    client = await serve(snapshot(Status.LOADING, model("a b", state)))
    reply, native = await client.get("/v2/models/a%20b/ready"), await client.get("/ready/a%20b")

    assert native.status == reply.status
    assert {"name": "a b", "ready": reply.status == 200} == await reply.json()


async def test_kserve_unknown(serve: Serve) -> None:
    """An unknown name is 404, with an error of the shape that protocol has."""
    reply = await (await serve(snapshot(Status.READY, model("a")))).get("/v2/models/b/ready")

    assert (404, {"error": "unknown model 'b'; the settings have 1"}) == (
        reply.status,
        await reply.json(),
    )
