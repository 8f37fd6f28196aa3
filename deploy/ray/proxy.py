"""Owns the front: ComfyUI's own API, answered by all replicas together, and POST /run. Knows no model."""

import json
import re
from typing import Any

from fastapi import FastAPI, Request, Response, WebSocket
from fastapi.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from deploy.ray.answers import FOLDER, RETRY_AFTER, lost, refused
from deploy.ray.flights import Flight, Flights
from deploy.ray.replicas import Replicas
from deploy.ray.sets import Sets
from deploy.ray.sockets import Sockets
from ray import serve
from ray.serve.handle import DeploymentHandle

BODY_MAX = 100 << 20
"""Bytes of a request, as ComfyUI's --max-upload-size."""
TAGGED = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-([0-9a-f]{12})")
"""An id that a replica made: a version 4 UUID whose last part is the replica's tag."""


class Api(FastAPI):
    """Every route is under /api too, as in ComfyUI."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] in ("http", "websocket") and scope["path"].startswith("/api/"):
            scope = {**scope, "path": scope["path"][4:]}
        await super().__call__(scope, receive, send)


api = Api(openapi_url=None)


async def json_object(request: Request) -> dict[str, Any] | None:
    """Return the body; None if it is not a JSON object. Nothing is an empty object."""
    try:
        body = json.loads(await request.body() or b"{}")
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


@serve.deployment(
    name="Front", num_replicas=1, max_ongoing_requests=5000, ray_actor_options={"num_cpus": 0.5}
)
@serve.ingress(api)
class Front:
    """One process: it has the clients' WebSockets, and passes on what their prompts say."""

    def __init__(self, comfy: DeploymentHandle[Any], sets: Sets) -> None:
        self._sets = sets
        self._sockets = Sockets()
        self._flights = Flights(comfy, self._sockets)
        self._replicas = Replicas(serve.get_replica_context().app_name)

    # -- prompts ----------------------------------------------------------------------------------

    @api.post("/prompt")
    async def post_prompt(self, request: Request) -> Response:
        """As ComfyUI's: the answer comes when a replica has accepted the prompt."""
        flight = await self._launch(request)
        return await flight.wait(flight.accepted) if isinstance(flight, Flight) else flight

    @api.post("/run")
    async def run(self, request: Request) -> Response:
        """Run a prompt, wait, and answer with its outputs.

        With `?images=inline`, with the bytes of their files.
        """
        images = request.query_params.get("images", "links")
        if images not in ("links", "inline"):
            return refused(400, "images_unknown", f"images is {images[:40]!r}; expected links or inline")
        flight = await self._launch(request, messages=False, inline=images == "inline")
        return await flight.wait(flight.outcome) if isinstance(flight, Flight) else flight

    async def _launch(
        self, request: Request, *, messages: bool = True, inline: bool = False
    ) -> Flight | Response:
        body = await json_object(request)
        if body is None:
            return refused(400, "invalid_json", "the body is not a JSON object")
        name = serve.get_multiplexed_model_id() or self._sets.for_prompt(body.get("prompt"))
        if name and name not in self._sets.models:
            known = ", ".join(self._sets.models)
            return refused(404, "set_unknown", f"there is no set {name[:100]!r}; there are {known}")
        client = str(body["client_id"]) if messages and body.get("client_id") else None
        return self._flights.launch(body, name, client, inline=inline)

    @api.websocket("/ws")
    async def ws(self, socket: WebSocket) -> None:
        """As ComfyUI's, with the messages of this client's prompts."""
        await self._sockets.serve(socket, len(self._flights))

    # -- what is on the replicas ------------------------------------------------------------------

    @api.get("/ready")
    async def ready(self) -> Response:
        """200 while there is a replica; each with the sets that it holds."""
        rows, _ = await self._replicas.rows()
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
        rows, all_known = await self._replicas.rows()
        found = TAGGED.fullmatch(prompt_id)
        tag = found[1] if found else ""
        if found and tag not in rows and all_known:
            return JSONResponse({prompt_id: lost(prompt_id, "its replica ended")})
        if found and tag not in rows:
            return refused(503, "starting", "not all replicas are known yet", retry=True)
        asked = [tag] if found else list(rows)
        for answer in await self._replicas.everywhere("GET", f"/history/{prompt_id}", among=asked):
            if answer:
                return JSONResponse(answer)
        return JSONResponse({})

    @api.get("/history")
    async def history(self, request: Request) -> Response:
        """As ComfyUI's, of all replicas."""
        found: dict[str, Any] = {}
        for answer in await self._replicas.everywhere("GET", f"/history?{request.url.query}"):
            found |= answer
        most = request.query_params.get("max_items", "")
        return JSONResponse(
            dict(list(found.items())[-int(most) :]) if most.isdigit() and int(most) else found
        )

    @api.get("/queue")
    async def queue(self) -> Response:
        """As ComfyUI's, of all replicas."""
        answers = await self._replicas.everywhere("GET", "/queue")
        return JSONResponse(
            {key: [i for a in answers for i in a[key]] for key in ("queue_running", "queue_pending")}
        )

    @api.get("/prompt")
    async def exec_info(self) -> Response:
        """As ComfyUI's: how many prompts run or wait."""
        return JSONResponse({"exec_info": {"queue_remaining": len(self._flights)}})

    @api.post("/queue")
    @api.post("/history")
    @api.post("/interrupt")
    async def command(self, request: Request) -> Response:
        """As ComfyUI's, on every replica; with ids, only these prompts."""
        body = await json_object(request)
        if body is None:
            return refused(400, "invalid_json", "the body is not a JSON object")
        await self._replicas.everywhere("POST", request.scope["path"], json=body)
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
            if tag not in (await self._replicas.rows())[0]:
                return refused(404, "replica_gone", "the replica that had this file has ended")
        ranges = {"Range": request.headers["range"]} if "range" in request.headers else {}
        return await self._replicas.pass_on("GET", "/view", tag, params=query, headers=ranges)

    @api.post("/upload/image")
    @api.post("/upload/mask")
    async def upload(self, request: Request) -> Response:
        """As ComfyUI's: all replicas share the folder."""
        if int(request.headers.get("content-length") or 0) > BODY_MAX:
            return refused(413, "too_large", f"the request is larger than {BODY_MAX >> 20} MiB")
        headers = {"Content-Type": request.headers.get("content-type", "")}
        return await self._replicas.pass_on(
            "POST", request.scope["path"], data=await request.body(), headers=headers
        )

    @api.get("/object_info")
    @api.get("/object_info/{name}")
    @api.get("/models")
    @api.get("/models/{name}")
    @api.get("/embeddings")
    @api.get("/features")
    async def same_everywhere(self, request: Request) -> Response:
        """What every replica would answer: one of them does."""
        return await self._replicas.pass_on("GET", request.scope["path"])
