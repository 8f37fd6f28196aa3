"""Own the prompts that are under way: offered to replicas until one accepts, then followed to their end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from typing import Any

from fastapi import Response
from fastapi.responses import JSONResponse

import ray
from deploy.ray.answers import RETRY_AFTER, lost, marked, marked_message, refusal
from deploy.ray.sockets import Sockets
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle

log = logging.getLogger("ray.serve")

TRIES = 5
"""Replicas that a prompt is offered to, as long as none has accepted it."""


class Flight:
    """A prompt under way. `accepted` is the answer to POST /prompt, `outcome` that to POST /run."""

    def __init__(self, client: str | None) -> None:
        loop = asyncio.get_running_loop()
        self.client = client
        self.accepted: asyncio.Future[Response] = loop.create_future()
        self.outcome: asyncio.Future[Response] = loop.create_future()
        self.headers: dict[str, str] = {}
        self.prompt_id: str | None = None
        self.tag = ""
        self.posted = False
        self.task: asyncio.Task[None]

    def answer(self, status: int, body: Any, *, retry: bool = False) -> None:
        """Answer the requests that still wait."""
        headers = self.headers | ({"Retry-After": str(RETRY_AFTER)} if retry else {})
        for waiting in (self.accepted, self.outcome):
            if not waiting.done():
                waiting.set_result(JSONResponse(body, status, headers))

    async def wait(self, waiting: asyncio.Future[Response]) -> Response:
        """Wait for one of the two answers; a client that goes away meanwhile takes its prompt with it."""
        try:
            return await asyncio.shield(waiting)
        except asyncio.CancelledError:
            self.task.cancel()
            raise


class Flights:
    """All prompts that this front has under way."""

    def __init__(self, comfy: DeploymentHandle[Any], sockets: Sockets) -> None:
        self._comfy = comfy
        self._sockets = sockets
        self._all: set[Flight] = set()

    def __len__(self) -> int:
        return len(self._all)

    def launch(self, body: dict[str, Any], name: str | None, client: str | None, *, inline: bool) -> Flight:
        """Send a prompt, for the set `name`; its messages go to `client`."""
        flight = Flight(client)
        flight.task = asyncio.create_task(self._fly(flight, body, name or "", inline=inline))
        self._all.add(flight)
        return flight

    async def _fly(self, flight: Flight, body: dict[str, Any], name: str, *, inline: bool) -> None:
        call = self._comfy.options(stream=True, multiplexed_model_id=name).prompt
        why = ""
        try:
            for _ in range(TRIES):
                why = await self._follow(
                    flight, call.remote(body, messages=flight.client is not None, inline=inline)
                )
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
            self._all.discard(flight)
            await self._sockets.send_queue(len(self))

    async def _follow(self, flight: Flight, stream: Any) -> str:
        """Read what `Comfy.prompt` yields.

        Without an outcome no replica has accepted the prompt; returns why.
        """
        why = "its replica ended"
        try:
            async for kind, value in stream:
                if kind == "unavailable":
                    flight.posted, why = False, value
                else:
                    await self._heard(flight, kind, value)
        except asyncio.CancelledError:
            stream.cancel()
            raise
        except ray.exceptions.RayActorError:
            pass
        if flight.posted and not flight.outcome.done():
            await self._heard(flight, "failed", why)
        return why

    async def _heard(self, flight: Flight, kind: str, value: Any) -> None:
        """One item of `Comfy.prompt`."""
        if kind == "posting":
            flight.posted = True
        elif kind == "refused":
            flight.answer(*value)
        elif kind == "accepted":
            await self._accepted(flight, value)
        elif kind == "message":
            await self._sockets.send(flight.client, marked_message(value, flight.tag))
        elif kind == "done":
            ok = value["status"]["status_str"] == "success"
            outputs = marked(value["outputs"], flight.tag)
            body = {"prompt_id": flight.prompt_id, "status": value["status"], "outputs": outputs}
            flight.answer(200 if ok else 500, body)
            await self._over(flight)
        elif kind == "failed":
            ((event, error),) = lost(flight.prompt_id, value)["status"]["messages"]
            flight.answer(502, refusal("prompt_lost", error["exception_message"]))
            await self._sockets.event(flight.client, event, error)
            await self._over(flight)

    async def _accepted(self, flight: Flight, value: dict[str, Any]) -> None:
        flight.prompt_id, flight.tag = value["answer"]["prompt_id"], value["tag"]
        flight.headers = {"X-Replica": flight.tag}
        if value["set"]:
            flight.headers |= {"X-Set": value["set"], "X-Warm": json.dumps(value["warm"])}
        with contextlib.suppress(asyncio.InvalidStateError):  # its client is gone
            flight.accepted.set_result(JSONResponse(value["answer"], 200, flight.headers))
        await self._sockets.send_queue(len(self))

    async def _over(self, flight: Flight) -> None:
        """Send what ComfyUI sends last."""
        await self._sockets.event(flight.client, "executing", {"node": None, "prompt_id": flight.prompt_id})
