"""The key `registry:` as it is read before pydantic is there: `core/settings/schema.py` is who complains about it."""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from comfy_preload.core.settings.glance import (
    ADVERTISED_URL,
    MAX_READERS,
    REDIS_URL,
    REGISTRY_ID,
    REGISTRY_PREFIX,
)

PREFIX = "comfy-preload"
_UNFIT = re.compile(r"[^A-Za-z0-9_.:\[\]-]+")


@dataclass(frozen=True)
class Where:
    """Which Redis, and what this replica is called there. The URL may hold a password: it is never shown."""

    redis: str = field(repr=False)
    advertise: str
    id: str
    prefix: str = PREFIX
    readers: int | None = None

    def key(self, *parts: str) -> str:
        return ":".join((self.prefix, *parts))


def where(raw: Any) -> Where | None:
    """None if that is not to be used: it is told elsewhere why."""
    told = raw if isinstance(raw, dict) else {}
    redis, advertise = told.get("redis"), told.get("advertise")
    if not (isinstance(redis, str) and REDIS_URL.fullmatch(redis)):
        return None
    if not (isinstance(advertise, str) and ADVERTISED_URL.fullmatch(advertise)):
        return None
    given, prefix, readers = (
        told.get("id") or _usual_id(advertise),
        told.get("prefix") or PREFIX,
        told.get("readers"),
    )
    if not (isinstance(given, str) and re.match(REGISTRY_ID, given)):
        return None
    if not (isinstance(prefix, str) and re.match(REGISTRY_PREFIX, prefix)):
        return None
    return Where(
        redis=redis,
        advertise=advertise.rstrip("/"),
        id=given,
        prefix=prefix,
        readers=readers if isinstance(readers, int) and 1 <= readers <= MAX_READERS else None,
    )


def _usual_id(advertise: str) -> str:
    """The machine and the advertised port: a replica that comes back has the same, two on one machine differ."""
    try:
        port = urlsplit(advertise).port
    except ValueError:
        port = None
    return _UNFIT.sub("-", f"{socket.gethostname()}:{port or 'default'}")[:100]
