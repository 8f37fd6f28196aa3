"""Own the clients' WebSockets. Knows no prompt."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

from fastapi import WebSocket, WebSocketDisconnect

SEND_TIMEOUT = 10.0
"""Seconds that a client may take to receive one message."""


class Sockets:
    """One WebSocket for each client id, the latest, as in ComfyUI."""

    def __init__(self) -> None:
        self._open: dict[str, WebSocket] = {}

    async def serve(self, socket: WebSocket, queue: int) -> None:
        """Keep a WebSocket until its client leaves.

        What the client sends, such as feature flags, is not used.
        """
        await socket.accept()
        client = socket.query_params.get("clientId") or str(time.monotonic_ns())
        self._open[client] = socket
        try:
            await socket.send_text(json.dumps({"type": "status", "data": {**_status(queue), "sid": client}}))
            while (await socket.receive())["type"] != "websocket.disconnect":
                pass
        except (WebSocketDisconnect, RuntimeError):
            pass
        finally:
            if self._open.get(client) is socket:
                del self._open[client]

    async def event(self, client: str | None, kind: str, data: Any) -> None:
        """Send one client an event."""
        await self.send(client, json.dumps({"type": kind, "data": data}))

    async def send(self, client: str | None, message: str | bytes) -> None:
        """Send one client a message, if it has a WebSocket."""
        socket = self._open.get(client or "")
        if socket is None:
            return
        try:
            sending = socket.send_text(message) if isinstance(message, str) else socket.send_bytes(message)
            await asyncio.wait_for(sending, SEND_TIMEOUT)
        except (
            RuntimeError,
            OSError,
            WebSocketDisconnect,
            asyncio.TimeoutError,
        ):  # closed or stuck: it is gone
            self._open.pop(client or "", None)

    async def send_queue(self, queue: int) -> None:
        """Send every client how many prompts run or wait."""
        await asyncio.gather(*(self.event(client, "status", _status(queue)) for client in list(self._open)))


def _status(queue: int) -> dict[str, Any]:
    return {"status": {"exec_info": {"queue_remaining": queue}}}
