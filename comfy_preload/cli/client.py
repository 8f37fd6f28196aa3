"""HTTP GET with few imports: a health check runs `wait` every few seconds.

Proxies are not used: the server is near.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urlsplit

from comfy_preload.core.errors import PreloadError, problem


@dataclass(frozen=True)
class Reply:
    """A server's reply, whatever its status."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes

    def json(self) -> Any:
        """Return None if the body is not JSON."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None


def address(url: str) -> SplitResult:
    """Parse a URL from the command line. Raises PreloadError: url_invalid."""
    try:
        parts = urlsplit(url)
        if (
            parts.scheme in ("http", "https")
            and parts.hostname
            and parts.port != 0
            and not parts.query
            and not parts.fragment
        ):
            return parts
    except ValueError:
        pass
    raise PreloadError(problem("url_invalid", url=url))


def get(server: SplitResult, path: str, timeout: float) -> Reply:
    """GET `path` below the address.

    Raises OSError or http.client.HTTPException if there is no reply. `timeout`: seconds.
    """
    kind = http.client.HTTPSConnection if server.scheme == "https" else http.client.HTTPConnection
    connection = kind(str(server.hostname), server.port, timeout=timeout)
    try:
        connection.request(
            "GET",
            server.path.rstrip("/") + path,
            headers={"Accept": "application/json", "Connection": "close"},
        )
        answer = connection.getresponse()
        return Reply(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
    finally:
        connection.close()
