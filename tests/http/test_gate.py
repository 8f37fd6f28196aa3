"""Who may give commands: every trick by which a page, a proxy or a neighbour might get in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from comfy_preload.api.access import Bucket, Facts, is_forwarding, is_loopback, refusal, token_from

TOKEN = b"s3cret"
HERE: dict[str, Any] = {"peer": "127.0.0.1", "host": ("127.0.0.1:8188",)}
AWAY: dict[str, Any] = {"peer": "10.0.0.7", "host": ("gpu-1:8188",)}


def facts(usual: dict[str, Any], **more: Any) -> Facts:
    return Facts(**{**usual, **more})


ALLOWED = {
    "curl": facts(HERE),
    "localhost": facts(HERE, host=("localhost:8188",)),
    "localhost-with-dot": facts(HERE, host=("LocalHost.:8188",)),
    "no-port": facts(HERE, host=("localhost",)),
    "all-of-127": facts(HERE, peer="127.8.9.1", host=("127.0.1.1",)),
    "ipv6": facts(HERE, peer="::1", host=("[::1]:8188",)),
    "ipv6-no-port": facts(HERE, peer="::1", host=("[::1]",)),
    "ipv6-long": facts(HERE, peer="::1", host=("[0:0:0:0:0:0:0:1]:8188",)),
    "mapped": facts(HERE, peer="::ffff:127.0.0.1", host=("[::ffff:127.0.0.1]:8188",)),
    "scope": facts(HERE, peer="::1%lo"),
    "our-own-page": facts(HERE, origin=("http://127.0.0.1:8188",), fetch_site=("same-origin",)),
    "our-own-page-tls": facts(HERE, origin=("https://127.0.0.1:8188",), fetch_site=("same-origin",)),
    "our-own-page-default-port": facts(HERE, host=("localhost",), origin=("http://localhost",)),
    "our-own-page-port-written-once": facts(HERE, host=("localhost:443",), origin=("https://localhost",)),
    "our-own-page-ipv6": facts(HERE, host=("[::1]:8188",), origin=("http://[::1]:8188",)),
    "typed": facts(HERE, fetch_site=("none",)),
    "token": facts(AWAY, authorization=("Bearer s3cret",)),
    "token-lower-case-scheme": facts(AWAY, authorization=("bearer s3cret",)),
    "token-blanks": facts(AWAY, authorization=("Bearer   s3cret ",)),
    "token-through-proxy": facts(AWAY, authorization=("Bearer s3cret",), forwarded=True),
    "token-from-a-page": facts(
        AWAY, authorization=("Bearer s3cret",), origin=("https://ops.example",), fetch_site=("cross-site",)
    ),
    "token-unix-socket": facts(AWAY, peer=None, authorization=("Bearer s3cret",)),
    "here-with-a-wrong-token": facts(HERE, authorization=("Bearer wrong",)),
}
REFUSED = {
    "another-machine": facts(AWAY),
    "another-machine-that-says-localhost": facts(AWAY, host=("localhost:8188",)),
    "unix-socket": facts(HERE, peer=None),
    "empty-peer": facts(HERE, peer=""),
    "any-address": facts(HERE, peer="0.0.0.0"),  # noqa: S104 — an address to refuse
    "private": facts(HERE, peer="192.168.1.1"),
    "mapped-away": facts(HERE, peer="::ffff:10.0.0.1"),
    "dns-rebinding": facts(
        HERE, host=("evil.example",), origin=("http://evil.example",), fetch_site=("same-origin",)
    ),
    "dns-rebinding-with-port": facts(HERE, host=("evil.example:8188",)),
    "dns-rebinding-without-origin": facts(HERE, host=("evil.example",)),
    "host-looks-like-ours": facts(HERE, host=("localhost.evil.example",)),
    "host-ends-like-ours": facts(HERE, host=("evil-localhost",)),
    "host-user": facts(HERE, host=("localhost@evil",)),
    "host-user-port": facts(HERE, host=("localhost:8188@evil",)),
    "host-reversed-user": facts(HERE, host=("evil@localhost",)),
    "host-path": facts(HERE, host=("localhost/evil",)),
    "host-blank": facts(HERE, host=("localhost evil",)),
    "host-comma": facts(HERE, host=("localhost, evil",)),
    "host-line": facts(HERE, host=("localhost\n",)),
    "host-null": facts(HERE, host=("localhost\0",)),
    "host-empty": facts(HERE, host=("",)),
    "host-port-only": facts(HERE, host=(":8188",)),
    "host-port-no-number": facts(HERE, host=("localhost:",)),
    "host-port-word": facts(HERE, host=("localhost:http",)),
    "host-port-too-large": facts(HERE, host=("localhost:65536",)),
    "host-port-digits-of-elsewhere": facts(HERE, host=("localhost:٨",)),
    "host-two-dots": facts(HERE, host=("localhost..",)),
    "host-missing": facts(HERE, host=()),
    "host-twice": facts(HERE, host=("localhost", "evil.example")),
    "host-twice-the-same": facts(HERE, host=("localhost", "localhost")),
    "host-ipv6-no-brackets": facts(HERE, host=("::1",)),
    "host-bracket-open": facts(HERE, host=("[::1",)),
    "host-name-in-brackets": facts(HERE, host=("[localhost]",)),
    "host-any-address": facts(HERE, host=("0.0.0.0:8188",)),
    "host-short-address": facts(HERE, host=("127.1",)),
    "host-decimal": facts(HERE, host=("2130706433",)),
    "host-octal": facts(HERE, host=("0177.0.0.1",)),
    "host-hex": facts(HERE, host=("0x7f.0.0.1",)),
    "host-long": facts(HERE, host=("a" * 10_000,)),
    "form-of-another-site": facts(HERE, origin=("https://evil.example",), fetch_site=("cross-site",)),
    "form-without-fetch-metadata": facts(HERE, origin=("https://evil.example",)),
    "form-without-origin": facts(HERE, fetch_site=("cross-site",)),
    "sandboxed-frame": facts(HERE, origin=("null",)),
    "another-port-of-this-machine": facts(HERE, origin=("http://127.0.0.1:3000",), fetch_site=("same-site",)),
    "another-name-of-this-machine": facts(
        HERE, origin=("http://localhost:8188",), fetch_site=("cross-site",)
    ),
    "same-site": facts(HERE, fetch_site=("same-site",)),
    "fetch-site-twice": facts(HERE, fetch_site=("same-origin", "cross-site")),
    "fetch-site-absurd": facts(HERE, fetch_site=("",)),
    "origin-twice": facts(HERE, origin=("http://127.0.0.1:8188", "https://evil.example")),
    "origin-file": facts(HERE, origin=("file://",)),
    "origin-extension": facts(HERE, origin=("chrome-extension://abc",)),
    "origin-user": facts(HERE, origin=("http://127.0.0.1:8188@evil.example",)),
    "origin-path": facts(HERE, origin=("http://127.0.0.1:8188/",)),
    "origin-empty": facts(HERE, origin=("",)),
    "proxy": facts(HERE, forwarded=True),
    "wrong-token": facts(AWAY, authorization=("Bearer wrong",)),
    "part-of-the-token": facts(AWAY, authorization=("Bearer s3cre",)),
    "more-than-the-token": facts(AWAY, authorization=("Bearer s3cret1",)),
    "another-scheme": facts(AWAY, authorization=("Basic s3cret",)),
    "no-scheme": facts(AWAY, authorization=("s3cret",)),
    "token-twice": facts(AWAY, authorization=("Bearer s3cret", "Bearer s3cret")),
    "empty-bearer": facts(AWAY, authorization=("Bearer ",)),
    "token-not-ascii": facts(AWAY, authorization=("Bearer s3crét",)),
    "token-no-text": facts(AWAY, authorization=("Bearer \udcff",)),
}


@pytest.mark.parametrize("request_", ALLOWED.values(), ids=list(ALLOWED))
def test_allowed(request_: Facts) -> None:
    """From this machine, or with the token."""
    assert "" == refusal(request_, TOKEN)


@pytest.mark.parametrize("request_", REFUSED.values(), ids=list(REFUSED))
def test_refused(request_: Facts) -> None:
    """Everything else, and the reason repeats nothing that was sent."""
    reason = refusal(request_, TOKEN)

    assert reason
    assert "evil" not in reason
    assert "s3cr" not in reason


@pytest.mark.parametrize("authorization", ["Bearer", "Bearer ", "Bearer  ", "bearer \t", ""])
def test_no_token_set(authorization: str) -> None:
    """Where no token is set, none opens: the empty one neither."""
    assert refusal(facts(AWAY, authorization=(authorization,)), b"")


@pytest.mark.parametrize("token", ["pässwörd", "\udce4", "令牌"])
def test_any_token(token: str) -> None:
    """A token may be any text."""
    environment = {"PRELOAD_TOKEN": token}

    assert "" == refusal(facts(AWAY, authorization=(f"Bearer {token}",)), token_from(environment))


@pytest.mark.parametrize(
    ("environment", "token"),
    [
        ({}, b""),
        ({"PRELOAD_TOKEN": ""}, b""),
        ({"PRELOAD_TOKEN": " \n"}, b""),
        ({"PRELOAD_TOKEN": "a b\n"}, b"a b"),
    ],
    ids=["unset", "empty", "blank", "newline-of-a-file"],
)
def test_token_from(environment: dict[str, str], token: bytes) -> None:
    """The token is what PRELOAD_TOKEN holds, without blanks around it."""
    assert token == token_from(environment)


def test_token_from_a_file(tmp_path: Path) -> None:
    """The file counts more than the variable, and is read again each time.

    A token can be changed without a restart.
    """
    file = tmp_path / "token"
    environment = {"PRELOAD_TOKEN_FILE": str(file), "PRELOAD_TOKEN": "other"}
    assert b"" == token_from(environment), "a file that is not there is no token"
    for token in (b"one", b"two\n", b" \n", "令牌\r\n".encode()):
        file.write_bytes(token)
        assert token.strip() == token_from(environment)


def test_not_shown() -> None:
    """What was sent as authorization is in no repr: those end in logs."""
    assert "s3cret" not in repr(ALLOWED["token"])


@pytest.mark.parametrize(
    "header",
    [
        "Forwarded",
        "X-Forwarded-For",
        "x-forwarded-host",
        "X-Forwarded-Proto",
        "Via",
        "X-Real-IP",
        "CF-Connecting-IP",
    ],
)
def test_forwarding(header: str) -> None:
    """What proxies add is known, in any case."""
    assert is_forwarding(header)
    assert is_forwarding(header.upper())
    assert not is_forwarding("Not-" + header)


@settings(deadline=None, derandomize=True)
@given(st.text(), st.text(), st.lists(st.text(), max_size=2), st.lists(st.text(), max_size=2))
def test_never_raises(peer: str, host: str, origins: list[str], authorization: list[str]) -> None:
    """Whatever is sent: a refusal or none, and none only from here or with the token."""
    said = refusal(Facts(peer, (host,), tuple(origins), (), tuple(authorization)), TOKEN)

    assert said or is_loopback(peer) or authorization


def test_bucket() -> None:
    """The limit at once; then one each time a share of the minute is over."""
    now = [0.0]
    bucket = Bucket(30, clock=lambda: now[0])

    assert [0.0] * 30 == [bucket.take() for _ in range(30)]
    assert 2.0 == pytest.approx(bucket.take())
    now[0] = 1.0
    assert 1.0 == pytest.approx(bucket.take())
    now[0] = 2.0
    assert 0.0 == bucket.take()
    assert bucket.take() > 0


def test_bucket_is_never_fuller() -> None:
    """An hour of silence saves up no more than a minute's worth."""
    now = [0.0]
    bucket = Bucket(3, clock=lambda: now[0])
    now[0] = 3600.0

    assert [True, True, True, False] == [bucket.take() == 0 for _ in range(4)]
