"""Decide whether a request may send commands, and how often. Independent of the web framework.

Access needs either the token, or a request from this machine without signs of a page of another site (a form,
a script, DNS rebinding) or of a proxy that forwards for others.
`commands:` in the settings chooses: `loopback`, as above; `token`, only with the token; `off`, nobody.
"""

from __future__ import annotations

import hmac
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_address
from pathlib import Path

from comfy_preload.core.settings.glance import CommandsMode

TOKEN_VARIABLE = "PRELOAD_TOKEN"  # noqa: S105 — the name of the variable
TOKEN_FILE_VARIABLE = "PRELOAD_TOKEN_FILE"  # noqa: S105 — the name of the variable
MAX_TOKEN_BYTES = 4096
MAX_COMMANDS_PER_MINUTE = 120
MAX_REFUSALS_PER_MINUTE = 30

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
"""Headers that only proxies set, in addition to those that begin with `x-forwarded`."""

_AUTHORITY = re.compile(r"(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9.-]{1,253}))(?::([0-9]{1,5}))?")
"""`host[:port]` only: no user name, no path, no blank."""
_ORIGIN = re.compile(r"(https?)://([^/]+)")
_OWN_SITE = frozenset({"same-origin", "none"})
"""Values of Sec-Fetch-Site for our own page or a typed URL. `same-site` is another port of this machine."""


@dataclass(frozen=True)
class Facts:
    """The origin of a request. Headers are tuples; a header sent more than once is not trusted."""

    peer: str | None
    """Address of the client; None for a unix socket."""
    host: tuple[str, ...]
    origin: tuple[str, ...] = ()
    fetch_site: tuple[str, ...] = ()
    authorization: tuple[str, ...] = field(default=(), repr=False)
    forwarded: bool = False
    """A proxy forwarded it: it has one of the headers above, or is HTTP/1.0, nginx's default to upstreams."""


def refusal(facts: Facts, token: bytes, mode: CommandsMode = CommandsMode.LOOPBACK) -> str:
    """Return why the request may not send commands, or '' if it may. An empty token matches nothing."""
    if mode is CommandsMode.OFF:
        return "commands are off in the settings"
    if has_token(facts.authorization, token):
        return ""
    without = "with another token" if facts.authorization and token else "without the token"
    if mode is CommandsMode.TOKEN:
        return f"it came {without}" if token else "commands need a token, and none is set"
    return _not_from_here(facts, without)


def fleet_refusal(authorization: tuple[str, ...], token: bytes) -> str:
    """Return why the fleet is not shown, or ''. With `registry.access: token` only the token opens."""
    if has_token(authorization, token):
        return ""
    if not token:
        return "it needs a token, and none is set"
    return "the request came with another token" if authorization else "the request came without the token"


def _not_from_here(facts: Facts, without: str) -> str:
    """Return what makes it doubtful that somebody on this machine sent it; empty if nothing does."""
    if not is_loopback(facts.peer):
        return f"it came from another machine and {without}"
    if facts.forwarded:
        return f"it came through a proxy and {without}"
    host = _authority(facts.host[0]) if len(facts.host) == 1 else None
    if host is None or not is_loopback(host[0]):
        return "its Host is not this machine"
    if any(site not in _OWN_SITE for site in facts.fetch_site) or any(
        not _is_own(origin, host) for origin in facts.origin
    ):
        return "a page of another site sent it"
    return ""


def is_loopback(host: str | None) -> bool:
    """Return whether it is in 127.0.0.0/8 (also mapped to IPv6), ::1 or localhost."""
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
    """Return whether only proxies send this header."""
    return header.lower() in FORWARDING or header.lower().startswith("x-forwarded")


def token_from(environment: Mapping[str, str]) -> bytes:
    """Return the token without surrounding whitespace, or b'' if there is none.

    PRELOAD_TOKEN_FILE takes precedence over PRELOAD_TOKEN. The file is read at each call, so that a replaced
    token, as in a mounted Secret, counts at once. A file that cannot be read is the same as no token.
    """
    if name := environment.get(TOKEN_FILE_VARIABLE):
        try:
            with Path(name).open("rb") as file:
                return file.read(MAX_TOKEN_BYTES).strip()
        except OSError:
            return b""
    return environment.get(TOKEN_VARIABLE, "").strip().encode("utf-8", "surrogateescape")


def has_token(authorization: tuple[str, ...], token: bytes) -> bool:
    """Return whether the one header is `Bearer` and the token; the comparison takes constant time."""
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
    """Return whether the page was served from the host and port to which it sends the request."""
    found = _ORIGIN.fullmatch(origin)
    page = _authority(found[2]) if found else None
    if not found or page is None:
        return False
    usual = 443 if found[1] == "https" else 80
    return (page[0], page[1] or usual) == (host[0], host[1] or usual)


@dataclass
class Bucket:
    """A token bucket: `size` tokens, refilled evenly over one minute."""

    size: int
    clock: Callable[[], float] = time.monotonic
    _left: float = field(init=False)
    _seen: float = field(init=False)

    def __post_init__(self) -> None:
        self._left, self._seen = float(self.size), self.clock()

    def take(self) -> float:
        """Take a token and return 0.0, or return the seconds until one is available."""
        now = self.clock()
        self._left = min(float(self.size), self._left + (now - self._seen) * self.size / 60)
        self._seen = now
        if self._left < 1:
            return (1 - self._left) * 60 / self.size
        self._left -= 1
        return 0.0
