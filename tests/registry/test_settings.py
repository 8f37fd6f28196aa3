"""The key `registry:`: what is accepted, and that no password is reported where something is not."""

from __future__ import annotations

import pytest

from comfy_preload.core.settings.document import parse
from comfy_preload.core.settings.validation import validate
from comfy_preload.registry.address import address_of


def test_all_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the file says is what is used, early and late."""
    monkeypatch.setenv("SECRET", "hunter2")
    text = "registry: {redis: 'rediss://:${SECRET}@h:1/2', advertise: 'http://[::1]:8188/', id: a, prefix: p,"
    text += "access: token}"
    document = parse(text)
    settings, early = validate(document), address_of(document.data["registry"])
    late = settings.options.registry

    assert () == settings.problems
    assert early is not None
    assert late is not None
    assert ("rediss://:hunter2@h:1/2", "a", "p") == (early.redis, early.id, early.prefix)
    assert ("rediss://:hunter2@h:1/2", "a", "p") == (late.redis, late.id, late.prefix)
    assert "http://[::1]:8188" == early.advertise
    assert (True, "token") == (early.guarded, late.access)
    assert "hunter2" not in repr((early, settings))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("http://fd00::12:8188", "http://[fd00::12]:8188"),
        ("http://::1:8188/", "http://[::1]:8188"),
        ("http://[fd00::12]:8188", "http://[fd00::12]:8188"),
        ("http://10.0.0.1:8188", "http://10.0.0.1:8188"),
        ("http://gpu-1:8188", "http://gpu-1:8188"),
    ],
)
def test_ipv6(monkeypatch: pytest.MonkeyPatch, given: str, expected: str) -> None:
    """`http://${POD_IP}:8188` has no brackets in an IPv6 cluster; the fleet gets an address with them."""
    monkeypatch.setenv("WHERE", given)
    document = parse("registry: {redis: 'redis://h', advertise: '${WHERE}'}")
    found = address_of(document.data["registry"])

    assert () == validate(document).problems
    assert expected == (found and found.advertise)


def test_usual_access() -> None:
    """The fleet is open unless the settings say so; a word that is unknown opens nothing."""
    usual = {"redis": "redis://h", "advertise": "http://h:1"}
    found = address_of(usual)

    assert found is not None
    assert not found.guarded
    assert address_of({**usual, "access": "tokn"}) is None


def test_usual_id() -> None:
    """Two replicas on one machine have different ports, and so different ids."""
    ids = {
        found.id
        for port in (1, 2)
        if (found := address_of({"redis": "redis://h", "advertise": f"http://h:{port}"}))
    }

    assert 2 == len(ids)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("registry: 'redis://:hunter2@h'", "the keys redis and advertise", id="url-for-mapping"),
        pytest.param("registry: ['redis://:hunter2@h']", "the keys redis and advertise", id="list"),
        pytest.param(
            "registry: {redis: 'redis//:hunter2@h', advertise: 'http://h'}",
            "expected a URL such as redis://",
            id="typo",
        ),
        pytest.param(
            "registry: {redis: ':hunter2@h', advertise: 'http://h'}",
            "expected a URL such as redis://",
            id="no-scheme",
        ),
        pytest.param(
            "registry: {redis: 'redis://h', advertise: 'http://u:hunter2@h'}",
            "without user and password",
            id="advertise",
        ),
        pytest.param(
            "registry: {redis: 'redis://h', advertise: h}", "advertise is 'h'; expected a URL", id="no-url"
        ),
        pytest.param(
            "registry: {redis: 'redis://:hunter2@h'}",
            "the keys redis and advertise",
            id="advertise-missing",
        ),
        pytest.param(
            "registry: {redis: 'redis://:hunter2@h', advertise: 'http://h', idd: a}",
            "unknown key 'idd'",
            id="unknown-key",
        ),
        pytest.param("registry: {redis: 5, advertise: 'http://h'}", "redis is 5", id="number"),
        pytest.param(
            "registry: {redis: 'redis://h', advertise: 'http://h', id: 'a b'}", "id is 'a b'", id="id"
        ),
        pytest.param(
            "registry: {redis: 'redis://h', advertise: 'http://h', readers: 1}",
            "unknown key 'readers'",
            id="readers",
        ),
    ],
)
def test_mistakes(text: str, said: str) -> None:
    """They are reported, without what may be a password; nothing else suffers."""
    settings = validate(parse(text))
    shown = "\n".join(str(p) for p in settings.problems)

    assert said in shown
    assert "hunter2" not in shown
    assert settings.options.registry is None
    assert 600 == settings.options.timeout
