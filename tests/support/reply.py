"""HTTP requests to the server under test: every status is a reply, not an exception."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any, NamedTuple


class Reply(NamedTuple):
    """An HTTP response. `json` is None if the body is not JSON."""

    status: int
    headers: Mapping[str, str]
    json: Any
    text: str


def ask(
    url: str,
    *,
    method: str = "GET",
    body: Any = None,
    raw: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    timeout: float = 60.0,
) -> Reply:
    """Send a request with `body` as JSON or `raw` as it is. Raise only if the connection fails."""
    data = raw if body is None else json.dumps(body).encode()
    headers = {**({} if body is None else {"Content-Type": "application/json"}), **(headers or {})}
    request = urllib.request.Request(url, data=data, headers=headers, method=method)  # noqa: S310 — always http to loopback
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:  # noqa: S310 — see above
            return _reply(answer.status, dict(answer.headers), answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return _reply(error.code, dict(error.headers), error.read())


def _reply(status: int, headers: Mapping[str, str], body: bytes) -> Reply:
    text = body.decode("utf-8", "replace")
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    return Reply(status, headers, value, text)
