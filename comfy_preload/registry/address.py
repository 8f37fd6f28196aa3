"""The key `registry:`, read without pydantic: the registry also runs where there is nothing to preload.

`core/settings/schema.py` goes by the same patterns and reports what is wrong.
"""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass, field
from typing import Any, TypeGuard
from urllib.parse import urlsplit

from comfy_preload.core.settings.glance import (
    ADVERTISED_URL,
    DEFAULT_PREFIX,
    REDIS_URL,
    REGISTRY_ACCESS,
    REGISTRY_ID,
    REGISTRY_PREFIX,
)

_UNFIT = re.compile(r"[^A-Za-z0-9_.:\[\]-]+")


@dataclass(frozen=True)
class Address:
    """Which Redis, and the name of this replica there. The URL may hold a password: it is never shown."""

    redis: str = field(repr=False)
    advertise: str
    id: str
    prefix: str = DEFAULT_PREFIX
    guarded: bool = False
    """Whether the fleet is shown only with the token."""

    def key(self, *parts: str) -> str:
        """Return a key in Redis. The braces put all of a fleet into one slot of a cluster."""
        return ":".join((f"{{{self.prefix}}}", *parts))


def address_of(raw: Any) -> Address | None:
    """Read what is under `registry:`. Return None if it is not usable; `validation` reports why."""
    found = raw if isinstance(raw, dict) else {}
    redis, advertise = found.get("redis"), found.get("advertise")
    if not (_fits(redis, REDIS_URL) and _fits(advertise, ADVERTISED_URL)):
        return None
    replica = found.get("id") or _default_id(advertise)
    prefix = found.get("prefix") or DEFAULT_PREFIX
    access = found.get("access", REGISTRY_ACCESS[0])
    if not (_fits(replica, REGISTRY_ID) and _fits(prefix, REGISTRY_PREFIX)) or access not in REGISTRY_ACCESS:
        return None
    url = _with_brackets(advertise.rstrip("/"))
    return Address(redis=redis, advertise=url, id=replica, prefix=prefix, guarded=access == "token")


def _with_brackets(url: str) -> str:
    """Put an IPv6 address into brackets: `http://${POD_IP}:8188` has none in an IPv6 cluster."""
    found = re.fullmatch(r"(https?://)([0-9A-Fa-f]*:[0-9A-Fa-f:.]*):([0-9]+)", url)
    return f"{found[1]}[{found[2]}]:{found[3]}" if found else url


def _fits(value: Any, pattern: re.Pattern[str]) -> TypeGuard[str]:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _default_id(advertise: str) -> str:
    """The machine and the advertised port.

    A replica that comes back has the same, two on one machine differ.
    """
    try:
        port = urlsplit(advertise).port
    except ValueError:
        port = None
    return _UNFIT.sub("-", f"{socket.gethostname()}:{port or 'default'}")[:100]
