"""Owns the front: ComfyUI's own API, answered by all replicas together, and POST /run. Knows no model."""

import asyncio
import contextlib
import json
import logging
import re
import time
from typing import Any

import aiohttp
from fastapi import FastAPI, Request, Response, WebSocket, WebSocketDisconnect
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.background import BackgroundTask
from starlette.types import Receive, Scope, Send

import ray
from deploy.ray.answers import FOLDER, RETRY_AFTER, lost, marked, marked_message, refusal, refused
from deploy.ray.directory import Row, directory
from deploy.ray.sets import Sets
from ray import serve
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle

log = logging.getLogger("ray.serve")

TRIES = 5
"""Replicas that a prompt is offered to, as long as none has accepted it."""
BODY_MAX = 100 << 20
"""Bytes of a request, as ComfyUI's --max-upload-size."""
TAGGED = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-([0-9a-f]{12})")
PASSED = ("content-type", "content-disposition", "content-range", "accept-ranges", "last-modified", "etag")


class Api(FastAPI):
    """Every route is under /api too, as in ComfyUI."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] in ("http", "websocket") and scope["path"].startswith("/api/"):
            scope = {**scope, "path": scope["path"][4:]}
        await super().__call__(scope, receive, send)


api = Api(openapi_url=None)


class Flight:
    """A prompt on its way. `accepted` is the answer to POST /prompt, `outcome` that to POST /run."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.accepted: asyncio.Future[Response] = loop.create_future()
        self.outcome: asyncio.Future[Response] = loop.create_future()
        self.headers: dict[str, str] = {}
        self.prompt_id: str | None = None
        self.tag: str | None = None
        self.posted = False
        self.task: asyncio.Task[None]

    def answer(self, status: int, body: Any, *, retry: bool = False) -> None:
        """Answer whoever still waits."""
        headers = self.headers | ({"Retry-After": str(RETRY_AFTER)} if retry else {})
        for waiting in (self.accepted, self.outcome):
            if not waiting.done():
                waiting.set_result(JSONResponse(body, status, headers))


@serve.deployment(
    name="Front", num_replicas=1, max_ongoing_requests=5000, ray_actor_options={"num_cpus": 0.5}
)
@serve.ingress(api)
class Front:
    """One process: it has the clients' WebSockets, and passes on what their prompts say."""

    def __init__(self, comfy: DeploymentHandle[Any], sets: Sets) -> None:
        self._comfy = comfy
        self._sets = sets
        self._application = serve.get_replica_context().app_name
        self._directory = directory(self._application)
        self._sockets: dict[str, WebSocket] = {}
        self._flights: set[Flight] = set()
        self._turn = 0
        self._client: aiohttp.ClientSession | None = None

    # -- prompts ----------------------------------------------------------------------------------

    @api.post("/prompt")
    async def post_prompt(self, request: Request) -> Response:
        """As ComfyUI's: the answer comes when a replica has accepted the prompt."""
        flight = await self._launch(request)
        return await self._wait(flight, flight.accepted) if isinstance(flight, Flight) else flight

    @api.post("/run")
    async def run(self, request: Request) -> Response:
        """Run a prompt, wait, and answer with its outputs; with `?images=inline`, with the bytes of their files."""
        images = request.query_params.get("images", "links")
        if images not in ("links", "inline"):
            return refused(400, "images_unknown", f"images is {images[:40]!r}; expected links or inline")
        flight = await self._launch(request, inline=images == "inline", messages=False)
        return await self._wait(flight, flight.outcome) if isinstance(flight, Flight) else flight

    async def _launch(
        self, request: Request, *, inline: bool = False, messages: bool = True
    ) -> Flight | Response:
        try:
            body = json.loads(await request.body())
        except ValueError:
            body = None
        if not isinstance(body, dict):
            return refused(400, "invalid_json", "the body is not a JSON object")
        name = serve.get_multiplexed_model_id() or self._sets.for_prompt(body.get("prompt"))
        if name and name not in self._sets.models:
            known = ", ".join(self._sets.models)
            return refused(404, "set_unknown", f"there is no set {name[:100]!r}; there are {known}")
        flight = Flight()
        flight.task = asyncio.create_task(self._fly(flight, body, name, inline=inline, messages=messages))
        self._flights.add(flight)
        return flight

    async def _wait(self, flight: Flight, waiting: asyncio.Future[Response]) -> Response:
        try:
            return await asyncio.shield(waiting)
        except asyncio.CancelledError:  # the client went away before it had its answer
            flight.task.cancel()
            raise

    async def _fly(
        self, flight: Flight, body: dict[str, Any], name: str | None, *, inline: bool, messages: bool
    ) -> None:
        client = str(body["client_id"]) if messages and body.get("client_id") else None
        call = self._comfy.options(stream=True, multiplexed_model_id=name or "").prompt
        why = ""
        try:
            for _ in range(TRIES):
                stream = call.remote(body, messages=client is not None, inline=inline)
                why = await self._follow(flight, stream, client)
                if flight.outcome.done():
                    return
                await asyncio.sleep(0.2)
            flight.answer(503, refusal("no_replica", f"no replica took the prompt: {why}"), retry=True)
        except BackPressureError:
            flight.answer(503, refusal("queue_full", "the queue is full"), retry=True)
        except DeploymentUnavailableError:
            flight.answer(503, refusal("no_replica", "no replica could be started"), retry=True)
        except Exception:
            log.exception("a prompt failed in the front")
            flight.answer(500, refusal("front_failed", "the front failed; its log says why"))
        finally:
            self._flights.discard(flight)
            await self._say_queue()

    async def _follow(self, flight: Flight, stream: Any, client: str | None) -> str:
        """Read what `Comfy.prompt` yields. Without an outcome no replica has accepted the prompt; returns why."""
        why = "its replica ended"
        try:
            async for kind, value in stream:
                if kind == "unavailable":
                    why = value
                elif kind == "posting":
                    flight.posted = True
                else:
                    await self._heard(flight, kind, value, client)
        except asyncio.CancelledError:
            stream.cancel()
            raise
        except ray.exceptions.RayActorError:
            pass
        if flight.posted and not flight.outcome.done():
            await self._heard(flight, "failed", why, client)
        return why

    async def _heard(self, flight: Flight, kind: str, value: Any, client: str | None) -> None:
        """One item of `Comfy.prompt`."""
        if kind == "refused":
            flight.answer(*value)
        elif kind == "accepted":
            flight.prompt_id, flight.tag = value["answer"]["prompt_id"], value["tag"]
            flight.headers = {"X-Replica": value["tag"]}
            if value["set"]:
                flight.headers |= {"X-Set": value["set"], "X-Warm": str(value["warm"]).lower()}
            flight.accepted.set_result(JSONResponse(value["answer"], 200, flight.headers))
            await self._say_queue()
        elif kind == "message":
            if isinstance(value, str) and '"status"' in value and json.loads(value).get("type") == "status":
                return  # of one replica; the front says its own
            await self._say(client, marked_message(value, flight.tag or ""))
        elif kind == "done":
            ok = value["status"]["status_str"] == "success"
            outputs = marked(value["outputs"], flight.tag or "")
            body = {"prompt_id": flight.prompt_id, "status": value["status"], "outputs": outputs}
            flight.answer(200 if ok else 500, body)
            await self._say(
                client,
                json.dumps({"type": "executing", "data": {"node": None, "prompt_id": flight.prompt_id}}),
            )
        elif kind == "failed":
            entry = lost(flight.prompt_id, value)
            flight.answer(
                502, {**refusal("prompt_lost", entry["status"]["messages"][0][1]["exception_message"])}
            )
            for event, data in (
                *entry["status"]["messages"],
                ("executing", {"node": None, "prompt_id": flight.prompt_id}),
            ):
                await self._say(client, json.dumps({"type": event, "data": data}))

    # -- WebSockets -------------------------------------------------------------------------------

    @api.websocket("/ws")
    async def ws(self, socket: WebSocket) -> None:
        """As ComfyUI's. What a client sends, such as feature flags, is not used."""
        await socket.accept()
        client = socket.query_params.get("clientId") or str(time.monotonic_ns())
        self._sockets[client] = socket
        try:
            await socket.send_text(
                json.dumps({"type": "status", "data": {**self._queue_info(), "sid": client}})
            )
            while (await socket.receive())["type"] != "websocket.disconnect":
                pass
        except (WebSocketDisconnect, RuntimeError):
            pass
        finally:
            if self._sockets.get(client) is socket:
                del self._sockets[client]

    def _queue_info(self) -> dict[str, Any]:
        return {"status": {"exec_info": {"queue_remaining": len(self._flights)}}}

    async def _say_queue(self) -> None:
        text = json.dumps({"type": "status", "data": self._queue_info()})
        await asyncio.gather(*(self._say(client, text) for client in list(self._sockets)))

    async def _say(self, client: str | None, message: str | bytes) -> None:
        socket = self._sockets.get(client or "")
        if socket is None:
            return
        try:
            send = socket.send_text(message) if isinstance(message, str) else socket.send_bytes(message)
            await asyncio.wait_for(send, 10)
        except (
            RuntimeError,
            OSError,
            WebSocketDisconnect,
            asyncio.TimeoutError,
        ):  # closed or stuck: the client is gone
            self._sockets.pop(client or "", None)

    # -- what is on the replicas ------------------------------------------------------------------

    @api.get("/ready")
    async def ready(self) -> Response:
        """200 while there is a replica; each with the sets that it holds."""
        rows, _ = await self._rows()
        replicas = [
            {"replica": tag, "sets": row["sets"], "queue": row["queue"]} for tag, row in sorted(rows.items())
        ]
        headers = {} if rows else {"Retry-After": str(RETRY_AFTER)}
        body = {
            "status": "ready" if rows else "starting",
            "replicas": replicas,
            "prompts": len(self._flights),
        }
        return JSONResponse(body, 200 if rows else 503, headers)

    @api.get("/history/{prompt_id}")
    async def history_of(self, prompt_id: str) -> Response:
        """As ComfyUI's. A prompt whose replica is gone has an entry with an error."""
        rows, all_known = await self._rows()
        found = TAGGED.fullmatch(prompt_id)
        tag = found[1] if found else ""
        if found and tag not in rows and all_known:
            return JSONResponse({prompt_id: lost(prompt_id, "its replica ended")})
        if found and tag not in rows:
            return refused(503, "starting", "not all replicas are known yet", retry=True)
        asked = [tag] if found else list(rows)
        for answer in await self._everywhere("GET", f"/history/{prompt_id}", among=asked):
            if answer:
                return JSONResponse(answer)
        return JSONResponse({})

    @api.get("/history")
    async def history(self, request: Request) -> Response:
        """As ComfyUI's, of all replicas."""
        found: dict[str, Any] = {}
        for answer in await self._everywhere("GET", f"/history?{request.url.query}"):
            found |= answer
        most = request.query_params.get("max_items", "")
        return JSONResponse(
            dict(list(found.items())[-int(most) :]) if most.isdigit() and int(most) else found
        )

    @api.get("/queue")
    async def queue(self) -> Response:
        """As ComfyUI's, of all replicas."""
        answers = await self._everywhere("GET", "/queue")
        return JSONResponse(
            {key: [i for a in answers for i in a[key]] for key in ("queue_running", "queue_pending")}
        )

    @api.get("/prompt")
    async def exec_info(self) -> Response:
        """As ComfyUI's: how many prompts run or wait."""
        return JSONResponse(self._queue_info()["status"])

    @api.post("/queue")
    @api.post("/history")
    @api.post("/interrupt")
    async def command(self, request: Request) -> Response:
        """As ComfyUI's, on every replica; with ids, only these prompts."""
        text = await request.body()
        try:
            body = json.loads(text or b"{}")
        except ValueError:
            body = None
        if not isinstance(body, dict):
            return refused(400, "invalid_json", "the body is not a JSON object")
        await self._everywhere("POST", request.scope["path"], json=body)
        return Response(status_code=200)

    @api.get("/view")
    async def view(self, request: Request) -> Response:
        """As ComfyUI's: `subfolder` says which replica has the file, and what is uploaded is on all."""
        query = dict(request.query_params)
        tag: str | None = None
        if query.get("type", "output") != "input":
            first, _, rest = query.get("subfolder", "").partition("/")
            if not first.startswith(FOLDER):
                return refused(
                    404,
                    "file_unknown",
                    "subfolder is not as the outputs name it: it says which replica has the file",
                )
            tag, query["subfolder"] = first.removeprefix(FOLDER), rest
            if tag not in (await self._rows())[0]:
                return refused(404, "replica_gone", "the replica that had this file has ended")
        ranges = {"Range": request.headers["range"]} if "range" in request.headers else {}
        return await self._pass_on("GET", "/view", tag, params=query, headers=ranges)

    @api.post("/upload/image")
    @api.post("/upload/mask")
    async def upload(self, request: Request) -> Response:
        """As ComfyUI's: all replicas share the folder."""
        if int(request.headers.get("content-length") or 0) > BODY_MAX:
            return refused(413, "too_large", f"the request is larger than {BODY_MAX >> 20} MiB")
        headers = {"Content-Type": request.headers.get("content-type", "")}
        return await self._pass_on("POST", request.scope["path"], data=await request.body(), headers=headers)

    @api.get("/object_info")
    @api.get("/object_info/{name}")
    @api.get("/models")
    @api.get("/models/{name}")
    @api.get("/embeddings")
    @api.get("/features")
    async def same_everywhere(self, request: Request) -> Response:
        """What every replica would answer: one of them does."""
        return await self._pass_on("GET", request.scope["path"])

    # -- asking replicas --------------------------------------------------------------------------

    async def _rows(self) -> tuple[dict[str, Row], bool]:
        try:
            rows: tuple[dict[str, Row], bool] = await self._directory.rows.remote()
        except ray.exceptions.RayActorError:
            self._directory = directory(self._application)
            return {}, False
        return rows

    @property
    def _http(self) -> aiohttp.ClientSession:
        if self._client is None:
            self._client = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None, sock_connect=5))
        return self._client

    async def _everywhere(
        self, method: str, path: str, *, among: list[str] | None = None, **more: Any
    ) -> list[Any]:
        """The JSON of every replica that answers, its files marked."""
        rows, _ = await self._rows()

        async def one(tag: str, row: Row) -> Any:
            limit = aiohttp.ClientTimeout(total=10)
            with contextlib.suppress(aiohttp.ClientError, asyncio.TimeoutError, ValueError):
                async with self._http.request(method, row["url"] + path, timeout=limit, **more) as answer:
                    return marked(await answer.json(), tag) if method == "GET" else {}

        asked = [one(tag, row) for tag, row in rows.items() if among is None or tag in among]
        return [answer for answer in await asyncio.gather(*asked) if answer is not None]

    async def _pass_on(self, method: str, path: str, tag: str | None = None, **more: Any) -> Response:
        """One replica's answer: that of `tag`, or of the next that answers."""
        rows, _ = await self._rows()
        self._turn += 1
        tags = [tag] if tag else sorted(rows)[self._turn % max(1, len(rows)) :] + sorted(rows)
        for one in tags:
            try:
                answer = await self._http.request(method, rows[one]["url"] + path, **more)
            except aiohttp.ClientConnectorError:
                continue
            headers = {key: value for key, value in answer.headers.items() if key.lower() in PASSED}
            return StreamingResponse(
                answer.content.iter_chunked(1 << 16),
                answer.status,
                headers,
                background=BackgroundTask(answer.release),
            )
        return refused(503, "no_replica", "no replica answers", retry=True)
