"""Ask the ComfyUI of a replica, or those of all replicas. Knows no route."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import aiohttp
from fastapi import Response
from fastapi.responses import StreamingResponse
from starlette.background import BackgroundTask

import ray
from deploy.ray.answers import marked, refused
from deploy.ray.directory import Row, directory

PASSED = ("content-type", "content-disposition", "content-range", "accept-ranges", "last-modified", "etag")
"""Headers of an answer that the client gets too."""


class Replicas:
    """The replicas of an application, by their tags."""

    def __init__(self, application: str) -> None:
        self._application = application
        self._directory = directory(application)
        self._client: aiohttp.ClientSession | None = None
        self._turn = 0

    async def rows(self) -> tuple[dict[str, Row], bool]:
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

    async def everywhere(
        self, method: str, path: str, *, among: list[str] | None = None, **more: Any
    ) -> list[Any]:
        """The JSON of every replica that answers, its files marked."""
        rows, _ = await self.rows()

        async def one(tag: str, row: Row) -> Any:
            limit = aiohttp.ClientTimeout(total=10)
            with contextlib.suppress(aiohttp.ClientError, asyncio.TimeoutError, ValueError):
                async with self._http.request(method, row["url"] + path, timeout=limit, **more) as answer:
                    return marked(await answer.json(), tag) if method == "GET" else {}

        asked = [one(tag, row) for tag, row in rows.items() if among is None or tag in among]
        return [answer for answer in await asyncio.gather(*asked) if answer is not None]

    async def pass_on(self, method: str, path: str, tag: str | None = None, **more: Any) -> Response:
        """One replica's answer: that of `tag`, or of the next that answers."""
        rows, _ = await self.rows()
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
