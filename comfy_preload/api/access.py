"""Who may give commands: a pure verdict on the facts of a request, and how often.

Two ways in. From this machine, as long as nothing hints at a page of another site (a form, a script, DNS rebinding) or
at a proxy that speaks for others; or with the token. Knows no web framework.
"""

from __future__ import annotations

import hmac
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_address

TOKEN_VARIABLE = "PRELOAD_TOKEN"  # noqa: S105 — the name of the variable
COMMANDS_A_MINUTE = 120
REFUSALS_A_MINUTE = 30

FORWARDING = frozenset(
    {
        "forwarded",
        "via",
        "cf-connecting-ip",
        "client-ip",
        "fly-client-ip",
        "true-client-ip",
        "x-client-ip",
        "x-cluster-client-ip",
        "x-envoy-external-address",
        "x-original-forwarded-for",
        "x-original-host",
        "x-real-ip",
    }
)
"""Headers that only proxies set; those that begin with `x-forwarded` are meant too."""

_AUTHORITY = re.compile(r"(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9.-]{1,253}))(?::([0-9]{1,5}))?")
"""`host[:port]` and nothing else: no user name, no path, no blank."""
_ORIGIN = re.compile(r"(https?)://([^/]+)")
_OWN_SITE = frozenset({"same-origin", "none"})
"""Of Sec-Fetch-Site: a page of our own, or somebody typing. `same-site` is another port of this machine."""


@dataclass(frozen=True)
class Facts:
    """What a request says of where it is from. Headers are tuples: sent twice they are no header to trust."""

    peer: str | None
    """Address of the other end of the connection; None for a unix socket."""
    host: tuple[str, ...]
    origin: tuple[str, ...] = ()
    fetch_site: tuple[str, ...] = ()
    authorization: tuple[str, ...] = field(default=(), repr=False)
    forwarded: bool = False
    """A proxy spoke: one of its headers is there, or HTTP/1.0, which nginx speaks where nobody told it otherwise."""


def refusal(facts: Facts, token: bytes) -> str:
    """Why the request may not give commands; empty if it may. An empty token opens nothing."""
    if _has_token(facts.authorization, token):
        return ""
    if not is_loopback(facts.peer):
        return "it came from another machine and without the token"
    if facts.forwarded:
        return "it came through a proxy and without the token"
    host = _authority(facts.host[0]) if len(facts.host) == 1 else None
    if host is None or not is_loopback(host[0]):
        return "its Host is not this machine"
    if any(site not in _OWN_SITE for site in facts.fetch_site) or any(
        not _is_own(origin, host) for origin in facts.origin
    ):
        return "a page of another site sent it"
    return ""


def is_loopback(host: str | None) -> bool:
    """127.0.0.0/8, ::1, the first written as IPv6, and localhost."""
    if host is None:
        return False
    host = host.partition("%")[0]
    if host.lower().removesuffix(".") == "localhost":
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback


def is_forwarding(header: str) -> bool:
    """Only a proxy sends this header."""
    return header.lower() in FORWARDING or header.lower().startswith("x-forwarded")


def token_from(environment: Mapping[str, str]) -> bytes:
    """The token's bytes; empty if there is none. Files that hold secrets end in a newline."""
    return environment.get(TOKEN_VARIABLE, "").strip().encode("utf-8", "surrogateescape")


def _has_token(authorization: tuple[str, ...], token: bytes) -> bool:
    if not token or len(authorization) != 1:
        return False
    scheme, _, given = authorization[0].partition(" ")
    same = hmac.compare_digest(given.strip().encode("utf-8", "surrogateescape"), token)
    return scheme.lower() == "bearer" and same


def _authority(text: str) -> tuple[str, int | None] | None:
    found = _AUTHORITY.fullmatch(text)
    if not found or int(found[3] or 0) > 65535:
        return None
    return (found[1] or found[2]).lower(), int(found[3]) if found[3] else None


def _is_own(origin: str, host: tuple[str, int | None]) -> bool:
    """The page was served from the very host and port that it now writes to."""
    found = _ORIGIN.fullmatch(origin)
    page = _authority(found[2]) if found else None
    if not found or page is None:
        return False
    usual = 443 if found[1] == "https" else 80
    return (page[0], page[1] or usual) == (host[0], host[1] or usual)


@dataclass
class Bucket:
    """So many at once, refilled evenly in a minute."""

    size: int
    clock: Callable[[], float] = time.monotonic
    _left: float = field(init=False)
    _seen: float = field(init=False)

    def __post_init__(self) -> None:
        self._left, self._seen = float(self.size), self.clock()

    def take(self) -> float:
        """Take one: 0.0, or the seconds until there is one."""
        now = self.clock()
        self._left = min(float(self.size), self._left + (now - self._seen) * self.size / 60)
        self._seen = now
        if self._left < 1:
            return (1 - self._left) * 60 / self.size
        self._left -= 1
        return 0.0
