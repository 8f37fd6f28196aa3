"""Owns a replica: one ComfyUI, the sets it holds, and the prompts it runs.

Serve starts it, routes to it and replaces it.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import logging
import os
import secrets
import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import aiohttp

import ray
from deploy.ray.answers import is_file, refusal
from deploy.ray.comfyui import LOOPBACK, ComfyUI, CommandError, Options
from deploy.ray.directory import PERIOD, Row, directory
from deploy.ray.sets import Sets
from ray import serve
from ray.serve.config import RequestRouterConfig

log = logging.getLogger("ray.serve")

Item = tuple[str, Any]
"""What `prompt` yields, in this order: `posting`, `accepted`, any number of `message`, `done`.

`unavailable` and `refused` end it before `accepted`; `failed` after `posting`. See `Comfy.prompt`."""
FAILED_FOR = 60.0
"""Seconds for which a set that could not be loaded is not tried again."""
FAREWELL = 1.0
"""Seconds in which prompts are answered after ComfyUI has ended, before their replica does."""
LOOK_EVERY = 1.0
"""Seconds between two looks at a prompt that sends no messages."""


@serve.deployment(
    name="Comfy",
    max_ongoing_requests=4,
    max_queued_requests=100,
    request_router_config=RequestRouterConfig(
        request_router_class="deploy.ray.router.SetRouter", request_router_kwargs={"spill_after_s": 5.0}
    ),
    health_check_period_s=PERIOD,
    health_check_timeout_s=30,
    graceful_shutdown_timeout_s=3600,
    graceful_shutdown_wait_loop_s=1,
)
class Comfy:
    """One replica. Its constructor returns when /ready is 200 and the first set is loaded."""

    async def __init__(self, sets: Sets, options: Options) -> None:
        context = serve.get_replica_context()
        self.tag = secrets.token_hex(6)
        self._sets = sets
        self._options = options
        self._application = context.app_name
        self._failed: dict[str, tuple[float, str]] = {}
        self._used: dict[str, float] = {}
        self._lock = asyncio.Lock()
        self._last_end = time.monotonic()
        self._tasks: set[asyncio.Task[None]] = set()
        address = ray.util.get_node_ip_address() if options.listen == "node" else LOOPBACK
        self._comfy = ComfyUI(options, self.tag, address)

        @serve.multiplexed(max_num_models_per_replica=sets.per_replica)
        async def hold(name: str) -> str:
            await self._load(name)
            return name

        self._hold = hold
        names = list(sets.models)
        first = names[context.rank.rank % len(names)]
        log.info("replica %s starts ComfyUI with the set %s", self.tag, first)
        await self._comfy.start(sets.preload_yaml([first], self._comfy.probe_port))
        await self._hold(first)
        await self._report()
        self._background(self._end_with_comfyui())
        log.info("replica %s is ready", self.tag)

    async def prompt(
        self, body: dict[str, Any], *, messages: bool = False, inline: bool = False
    ) -> AsyncGenerator[Item, None]:
        """Run one prompt to its end, and yield what becomes of it. It counts as ongoing that long.

        unavailable: ComfyUI is not there or drains, and has not accepted the prompt: try elsewhere.
        refused: (status, JSON) that the client is to be answered.
        posting: from here on the prompt may have been accepted.
        accepted: ComfyUI's answer, with `tag`, `set` and `warm`.
        message: what ComfyUI sent to the prompt's WebSocket, text or bytes.
        failed: the sentence why it was accepted and will have no result.
        done: the prompt's entry of /history; with `inline`, files have their bytes as `data` in base64.
        """
        name = serve.get_multiplexed_model_id()
        prompt_id = str(body.get("prompt_id") or f"{str(uuid.uuid4())[:24]}{self.tag}")
        try:
            warm = await self._have(name) if name else None
            socket = await self._comfy.http.ws_connect(
                f"{self._comfy.url}/ws", params={"clientId": prompt_id}, max_msg_size=0
            )
        except CommandError as error:
            yield "refused", (500, refusal("set_failed", f"set {name} could not be loaded: {error}"))
            return
        except (aiohttp.ClientError, OSError, asyncio.TimeoutError) as error:
            # If ComfyUI has ended, this actor ends before that time is over, and Serve routes elsewhere.
            await asyncio.sleep(2 * FAREWELL)
            yield "unavailable", f"ComfyUI does not answer ({type(error).__name__})"
            return
        over = False
        try:
            yield "posting", None
            try:
                status, said = await self._comfy.post(
                    "/prompt", {**body, "prompt_id": prompt_id, "client_id": prompt_id}
                )
            except aiohttp.ClientError:
                yield "failed", "ComfyUI ended while it was given the prompt"
                return
            over = status != 200
            if status == 503:
                yield "unavailable", "ComfyUI drains"
                return
            if status != 200:
                body = said if isinstance(said, dict) else refusal("refused", "ComfyUI refused the prompt")
                yield "refused", (status, body)
                return
            yield "accepted", {"answer": said, "tag": self.tag, "set": name or None, "warm": warm}
            reasons: list[str] = []
            guard = asyncio.create_task(self._guard(prompt_id, socket, reasons))
            try:
                async for message in socket:
                    said = json.loads(message.data) if message.type is aiohttp.WSMsgType.TEXT else {}
                    if ends(said, prompt_id):
                        break
                    if messages and said.get("type") != "status":  # the front sends one for all replicas
                        yield "message", message.data
            finally:
                guard.cancel()
            outcome = await self._outcome(prompt_id, reasons, inline=inline)
            over = True
            yield outcome
        finally:
            self._last_end = time.monotonic()
            await socket.close()
            if not over:
                await asyncio.shield(self._withdraw(prompt_id))

    async def check_health(self) -> None:
        """Raise if /livez is not 200: Serve then replaces this replica."""
        status, said = await self._comfy.get("/livez", seconds=20)
        if status != 200:
            raise RuntimeError(f"/livez: {status}, {said.get('fault')}")
        await self._report()

    async def __del__(self) -> None:
        """Called by Serve when no prompt is left.

        Stay until the last images were fetched, then end ComfyUI.
        """
        while not self._comfy.exited.is_set() and time.monotonic() < self._last_end + self._options.linger_s:
            await self._report()
            await asyncio.sleep(min(PERIOD, 1 + self._options.linger_s / 4))
        with contextlib.suppress(ray.exceptions.RayError):
            await directory(self._application).drop.remote(self.tag)
        for task in self._tasks:
            task.cancel()
        await self._comfy.stop()

    # -- sets -------------------------------------------------------------------------------------

    async def _held(self) -> set[str]:
        """Return the sets that ComfyUI holds now, by /preload."""
        return self._sets.held((await self._comfy.get("/preload?verbose"))[1]["models"]["items"])

    async def _have(self, name: str) -> bool:
        """Hold the set, for Serve's routing too; return whether it was there before. Raises CommandError."""
        warm = name in await self._held()
        self._used[name] = time.monotonic()
        await self._hold(name)
        if not warm:  # Serve may think that it is here, and ComfyUI has released it since
            await self._load(name)
        return warm

    async def _load(self, name: str) -> None:
        """Have ComfyUI hold the set, in place of those used longest ago.

        The old sets come back if that fails.

        Raises CommandError.
        """
        async with self._lock:
            before = sorted(await self._held(), key=lambda held: self._used.get(held, 0.0))
            if name in before:
                return
            at, why = self._failed.get(name, (-FAILED_FOR, ""))
            if time.monotonic() - at < FAILED_FOR:
                raise CommandError(why)
            kept = before[max(0, len(before) + 1 - self._sets.per_replica) :]
            try:
                await self._replace(before, kept, name)
            finally:
                await self._report()  # /ready lists it: the next regular report is seconds away
            log.info(
                "replica %s holds %s, no longer %s", self.tag, [*kept, name], sorted(set(before) - set(kept))
            )

    async def _replace(self, before: list[str], kept: list[str], name: str) -> None:
        if kept != before:  # first let go, so that both need not fit at once
            await self._reload(kept)
        try:
            await self._reload([*kept, name])
        except CommandError as error:
            self._failed[name] = time.monotonic(), str(error)
            await self._reload(before)
            raise

    async def _reload(self, names: Sequence[str]) -> None:
        self._comfy.write(self._sets.preload_yaml(names, self._comfy.probe_port))
        await self._comfy.reload()

    # -- prompts ----------------------------------------------------------------------------------

    async def _guard(self, prompt_id: str, socket: Any, reasons: list[str]) -> None:
        """Close the WebSocket of a prompt that will say no more: cancelled, or running for too long."""
        begun: float | None = None
        while not self._comfy.exited.is_set():
            await asyncio.sleep(LOOK_EVERY)
            with contextlib.suppress(aiohttp.ClientError, asyncio.TimeoutError):
                _, queue = await self._comfy.get("/queue")
                running = any(item[1] == prompt_id for item in queue["queue_running"])
                begun = begun or (time.monotonic() if running else None)
                if not running and all(item[1] != prompt_id for item in queue["queue_pending"]):
                    break
            if begun and time.monotonic() - begun > self._options.prompt_timeout_s:
                reasons.append(f"the prompt was ended after {self._options.prompt_timeout_s:.0f} s")
                await self._interrupt(prompt_id)
                break
        await socket.close()

    async def _interrupt(self, prompt_id: str, timeout: float = 5.0) -> None:
        """Interrupt a running prompt; a ComfyUI that does not heed it is ended."""
        with contextlib.suppress(aiohttp.ClientError, asyncio.TimeoutError):
            await self._comfy.post("/interrupt", {"prompt_id": prompt_id})
            end = time.monotonic() + timeout
            while time.monotonic() < end:
                if (await self._comfy.get(f"/history/{prompt_id}"))[1]:
                    return
                await asyncio.sleep(0.2)
        log.error("replica %s: a prompt does not end; ComfyUI is killed", self.tag)
        self._comfy.kill()

    async def _outcome(self, prompt_id: str, reasons: list[str], *, inline: bool) -> Item:
        if reasons:
            return "failed", reasons[0]
        try:
            entry = (await self._comfy.get(f"/history/{prompt_id}"))[1].get(prompt_id)
            if entry and inline:
                await self._put_in(entry["outputs"])
        except (aiohttp.ClientError, asyncio.TimeoutError):
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._comfy.exited.wait(), 2)
            gone = self._comfy.exited.is_set()
            return "failed", self._comfy.ending() if gone else "ComfyUI does not answer"
        return ("done", entry) if entry else ("failed", "the prompt was removed from the queue")

    async def _put_in(self, value: Any) -> None:
        """Give every file in `value` its bytes."""
        for one in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            await self._put_in(one)
        if isinstance(value, dict) and is_file(value):
            query = {key: str(value[key]) for key in ("filename", "subfolder", "type")}
            async with self._comfy.http.get(f"{self._comfy.url}/view", params=query) as answer:
                if answer.status == 200:
                    value["data"] = base64.b64encode(await answer.read()).decode()

    async def _withdraw(self, prompt_id: str) -> None:
        """Remove the prompt from the queue, or interrupt it: its client is gone."""
        with contextlib.suppress(aiohttp.ClientError, asyncio.TimeoutError):
            await self._comfy.post("/queue", {"delete": [prompt_id]})
            await self._comfy.post("/interrupt", {"prompt_id": prompt_id})

    # -- life -------------------------------------------------------------------------------------

    async def _report(self) -> None:
        with contextlib.suppress(ray.exceptions.RayError, aiohttp.ClientError, asyncio.TimeoutError):
            _, now = await self._comfy.get("/preload?verbose")
            row = Row(
                url=self._comfy.url,
                sets=sorted(self._sets.held(now["models"]["items"])),
                queue=now["queue_remaining"],
            )
            await directory(self._application).put.remote(self.tag, row)

    async def _end_with_comfyui(self) -> None:
        """A replica without ComfyUI is of no use: end it as well, and Serve starts another."""
        await self._comfy.exited.wait()
        log.error("replica %s: %s; its log ends in:\n%s", self.tag, self._comfy.ending(), self._comfy.tail())
        with contextlib.suppress(ray.exceptions.RayError):
            await directory(self._application).drop.remote(self.tag)
        await asyncio.sleep(FAREWELL)
        os._exit(1)

    def _background(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._tasks.add(task)


def ends(said: dict[str, Any], prompt_id: str) -> bool:
    """Is this ComfyUI's word that the prompt is over? Its entry is in /history by then.

    Source: main.py, prompt_worker.
    """
    data = said.get("data") or {}
    return said.get("type") == "executing" and data.get("node") is None and data.get("prompt_id") == prompt_id
