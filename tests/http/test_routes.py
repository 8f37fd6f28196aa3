"""What is answered, for every state: code, headers, body. Served by a bare aiohttp application, as in ComfyUI."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from urllib.parse import quote

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from preload_plugin.api.routes import register
from preload_plugin.core.errors import failure, problem
from preload_plugin.core.readiness import ModelState, Progress, Snapshot, Status
from preload_plugin.tests.support.snapshots import BROKEN, model, snapshot

Client = TestClient[web.Request, web.Application]
Serve = Callable[[Snapshot], Awaitable[Client]]

READY_KEYS = ["status", "since", "models", "progress", "failing"]
ROW_KEYS = ["name", "kind", "loader", "required", "state", "device", "bytes", "bytes_on_device", "seconds", "hits", "error"]
HALF = Progress(bytes=40, bytes_total=100, fraction=0.4, seconds=6.2, eta=8.9)
UNKNOWN_SPEED = Progress(bytes=0, bytes_total=100, fraction=0.0, seconds=0.1, eta=None)

STATES = {
    "starting": (snapshot(Status.STARTING, model(state=ModelState.PENDING), progress=UNKNOWN_SPEED, host=None), 503),
    "loading": (snapshot(Status.LOADING, model(), model("b", ModelState.LOADING), progress=HALF), 503),
    "ready": (snapshot(Status.READY, model()), 200),
    "ready-with-nothing": (snapshot(Status.READY), 200),
    "degraded": (snapshot(Status.DEGRADED, model(), model("b", ModelState.FAILED, required=False)), 200),
    "failed": (snapshot(Status.FAILED, model(), model("b", ModelState.FAILED)), 503),
    "file-wrong": (snapshot(Status.FAILED, problems=(problem("yaml_syntax", line=2, reason="a tab"),)), 503),
}


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Serves one snapshot, with every route under /api as well (`PromptServer.add_routes`)."""
    clients: list[Client] = []

    async def start(now: Snapshot) -> Client:
        routes = web.RouteTableDef()
        register(routes, lambda: now)
        mirrored = web.RouteTableDef()
        for route in routes:
            assert isinstance(route, web.RouteDef)
            mirrored.route(route.method, "/api" + route.path)(route.handler, **route.kwargs)
        app = web.Application()
        app.add_routes(mirrored)
        app.add_routes(routes)
        client: Client = TestClient(TestServer(app))
        clients.append(client)
        await client.start_server()
        return client

    yield start
    for client in clients:
        await client.close()


@pytest.mark.parametrize("prefix", ["", "/api"], ids=["plain", "api"])
@pytest.mark.parametrize(("now", "code"), STATES.values(), ids=STATES)
async def test_ready(serve: Serve, now: Snapshot, code: int, prefix: str) -> None:
    """/ready is 200 exactly if traffic is wanted; the body has the same keys in every state."""
    reply = await (await serve(now)).get(f"{prefix}/ready")
    body = await reply.json()

    assert (code, now.status.value) == (reply.status, body["status"])
    assert READY_KEYS == list(body)
    assert ["total", "ready", "failed"] == list(body["models"])
    assert ["fraction", "bytes", "bytes_total", "seconds", "eta"] == list(body["progress"])
    assert "2026-11-22T20:39:34Z" == body["since"]
    assert "no-store" == reply.headers["Cache-Control"]
    assert "application/json" == reply.content_type
    assert (code == 503) is ("Retry-After" in reply.headers)


@pytest.mark.parametrize("path", ["/ready", "/ready/sdxl", "/ready/nobody", "/livez", "/preload"])
@pytest.mark.parametrize(("now", "_code"), STATES.values(), ids=STATES)
async def test_head(serve: Serve, now: Snapshot, _code: int, path: str) -> None:
    """HEAD answers as GET does, without the body."""
    client = await serve(now)
    get, head = await client.get(path), await client.head(path)

    assert get.status == head.status
    assert get.headers["Content-Length"] == head.headers["Content-Length"]
    assert (b"", get.headers.get("Retry-After")) == (await head.read(), head.headers.get("Retry-After"))


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize("path", ["/ready", "/ready/sdxl", "/livez", "/preload"])
async def test_nothing_to_change(serve: Serve, method: str, path: str) -> None:
    """The routes answer questions and take no orders."""
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

    assert {"total": len(ModelState), "ready": 3, "failed": 1} == body["models"]
    assert ["failed"] == list(body["failing"])


async def test_failing(serve: Serve) -> None:
    """What fails stands under its name with code, message, hint and line; the settings file under its own."""
    wrong = problem("yaml_too_large", found="a bomb", wanted="less")
    now = snapshot(Status.FAILED, model("b", ModelState.FAILED), problems=(wrong,))
    body = await (await (await serve(now)).get("/ready")).json()

    expected = {"code": "file_empty", "message": "a.safetensors is empty", "hint": BROKEN.hint, "line": 3}
    assert expected == body["failing"]["b"]
    assert ("yaml_too_large", None) == (body["failing"]["preload.yaml"]["code"], body["failing"]["preload.yaml"]["line"])


async def test_several_problems(serve: Serve) -> None:
    """Several problems of one model are told in one message, under the code of the first."""
    two = (problem("input_missing", loader="L", input="a"), BROKEN)
    now = snapshot(Status.FAILED, model("b", ModelState.FAILED, problems=two))
    error = (await (await (await serve(now)).get("/ready")).json())["failing"]["b"]

    assert ("input_missing", "L needs the input 'a'; a.safetensors is empty") == (error["code"], error["message"])


async def test_a_thousand_problems(serve: Serve) -> None:
    """A file that is wrong in a thousand places is told the first ten."""
    many = tuple(problem("file_empty", file=f"f{i}") for i in range(1000))
    body = await (await (await serve(snapshot(Status.FAILED, problems=many))).get("/ready")).json()

    assert body["failing"]["preload.yaml"]["message"].endswith("; f9 is empty; and 990 more")


async def test_more_than_a_hundred_failing(serve: Serve) -> None:
    """A hundred are listed, the file's own problems first; all are counted."""
    rows = [model(f"m{i}", ModelState.FAILED) for i in range(250)]
    body = await (await (await serve(snapshot(Status.FAILED, *rows, problems=(BROKEN,)))).get("/ready")).json()

    assert (100, 250) == (len(body["failing"]), body["models"]["failed"])
    assert ["preload.yaml", "m0", "m1"] == list(body["failing"])[:3]


@pytest.mark.parametrize("query", ["?verbose", "?verbose=1", "?verbose=true&x=y"])
async def test_verbose(serve: Serve, query: str) -> None:
    """`?verbose` adds one row for each model, and changes nothing else."""
    client = await serve(STATES["failed"][0])
    plain, verbose = await (await client.get("/ready")).json(), await (await client.get(f"/ready{query}")).json()

    rows = verbose["models"].pop("items")
    assert plain == verbose
    assert [ROW_KEYS, ROW_KEYS] == [list(row) for row in rows]
    assert ["sdxl", "b"] == [row["name"] for row in rows]
    assert {"read": None, "load": 1.235, "move": None, "warm": None} == rows[0]["seconds"]
    assert [None, "file_empty"] == [row["error"] and row["error"]["code"] for row in rows]


@pytest.mark.parametrize("state", ModelState, ids=lambda s: s.value)
async def test_model(serve: Serve, state: ModelState) -> None:
    """/ready/{name} is 200 exactly if the model needs no file any more; `state` says where it is."""
    reply = await (await serve(snapshot(Status.LOADING, model("other"), model("it", state)))).get("/ready/it")
    body = await reply.json()

    there = state in (ModelState.RESIDENT, ModelState.STAGED, ModelState.EVICTED)
    assert (200 if there else 503, "ready" if there else state.value) == (reply.status, body["status"])
    assert ["status", *ROW_KEYS] == list(body)
    assert ("it", state.value) == (body["name"], body["state"])
    assert "no-store" == reply.headers["Cache-Control"]
    assert (not there) is ("Retry-After" in reply.headers)


@pytest.mark.parametrize(
    "name",
    ["sd_xl_base_1.0", "模型 ä", "50% off", "a b", "a?b#c&d=e", "a%2Fb", "clip_l+t5", "..a", "models[0]", "'\";<b>"],
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
    assert {"status": "unknown", "message": "no such model", "models": ["a", "b"]} == await reply.json()


async def test_unknown_among_many(serve: Serve) -> None:
    """No more than a hundred names are listed."""
    reply = await (await serve(snapshot(Status.READY, *(model(f"m{i}") for i in range(500))))).get("/ready/nobody")

    assert 100 == len((await reply.json())["models"])


@pytest.mark.parametrize("prefix", ["", "/api"], ids=["plain", "api"])
@pytest.mark.parametrize(("now", "_code"), STATES.values(), ids=STATES)
async def test_livez(serve: Serve, now: Snapshot, _code: int, prefix: str) -> None:
    """The process lives in every state: a restart would not mend a missing file."""
    reply = await (await serve(now)).get(f"{prefix}/livez")

    assert (200, {"status": "alive"}, "no-store") == (reply.status, await reply.json(), reply.headers["Cache-Control"])


@pytest.mark.parametrize("prefix", ["", "/api"], ids=["plain", "api"])
@pytest.mark.parametrize(("now", "_code"), STATES.values(), ids=STATES)
async def test_preload(serve: Serve, now: Snapshot, _code: int, prefix: str) -> None:
    """/preload is 200 in every state, with all there is to know."""
    reply = await (await serve(now)).get(f"{prefix}/preload")
    body = await reply.json()

    assert (200, "no-store") == (reply.status, reply.headers["Cache-Control"])
    assert {*READY_KEYS, "hits", "misses", "prefetch", "host"} == body.keys()
    assert (2 * len(now.models), {"VAELoader": 3}) == (body["hits"], body["misses"])
    assert len(now.models) == len(body["models"]["items"])


async def test_host(serve: Serve) -> None:
    """The host's facts are told as soon as they are known."""
    client = await serve(snapshot())

    expected = {"comfyui": "0.3.75", "python": "3.11.7", "torch": "2.14.1", "device": "cuda:0 A100"}
    assert expected == (await (await client.get("/preload")).json())["host"]


@pytest.mark.parametrize("path", ["/ready?verbose", "/ready/x", "/preload"])
async def test_no_path(serve: Serve, path: str) -> None:
    """No body has a path in it, whatever a loader said."""
    said = failure("L", OSError(13, "Permission denied", "/srv/secret/models/a.safetensors"))
    reply = await (await serve(snapshot(Status.FAILED, model("x", ModelState.FAILED, problems=(said,))))).get(path)
    text = await reply.text()

    assert "Permission denied: 'a.safetensors'" in text
    assert "secret" not in text


async def test_asked_anew() -> None:
    """Every request takes one snapshot of its own."""
    asked: list[None] = []

    def count() -> Snapshot:
        asked.append(None)
        return snapshot(Status.READY, model())

    routes = web.RouteTableDef()
    register(routes, count)
    app = web.Application()
    app.add_routes(routes)
    async with TestClient(TestServer(app)) as client:
        for path in ("/ready", "/ready?verbose", "/ready/sdxl", "/preload", "/livez"):
            await client.get(path)

    assert 4 == len(asked)
