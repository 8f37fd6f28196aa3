"""What start-up reads of the settings without pydantic is what pydantic would make of them."""

from __future__ import annotations

from typing import Any

import pytest

from comfy_preload.core.settings.document import parse
from comfy_preload.core.settings.glance import Glance, PrefetchGlance, glance
from comfy_preload.core.settings.schema import Options
from comfy_preload.core.settings.validation import validate


def seen(text: str) -> Glance:
    return glance(parse(text))


def validated(options: Options) -> tuple[Any, ...]:
    ahead = options.prefetch
    readers = None if ahead.readers == "auto" else ahead.readers
    glanced = PrefetchGlance(ahead.enabled, readers, ahead.pretouch, ahead.libraries, ahead.memory)
    return glanced, options.probe.port, options.when == "off"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "when: off",
        "when: background",
        "prefetch: {enabled: false}",
        "prefetch: {readers: 8, memory: 0.5, pretouch: false}",
        "prefetch: {readers: 64, memory: 1}",
        "prefetch: {readers: auto, memory: 0}",
        "probe: {port: 9188}",
        "probe: {}",
    ],
)
def test_same_as_validation(text: str) -> None:
    """Defaults and given values are the same on both readings."""
    settings, found = validate(parse(text)), seen(text)

    assert () == settings.problems
    assert validated(settings.options) == (found.prefetch, found.probe_port, found.off)


@pytest.mark.parametrize(
    "text",
    [
        "prefetch: {readers: 65}",
        "prefetch: {readers: 0}",
        "prefetch: {memory: 1.5}",
        "prefetch: {memory: much}",
        "prefetch: 5",
        "probe: {port: 70000}",
        "probe: {port: 0}",
        "probe: 9188",
    ],
)
def test_bad_value(text: str) -> None:
    """A value that validation refuses is replaced by its default.

    Start-up goes on, and the mistake is reported later.
    """
    assert validate(parse(text)).problems
    assert (PrefetchGlance(), None) == (seen(text).prefetch, seen(text).probe_port)


@pytest.mark.parametrize(
    ("text", "idle"),
    [
        ("", True),
        ("models: []\nworkflows: []", True),
        ("when: off\ntimeout: 5", True),
        ("models: [{vae: a}]", False),
        ("workflows: [{path: a.json}]", False),
        ("registry: {redis: x}", False),
        ("modles: []", False),
        ("when: off\nwhen: off", False),
        ("- a", False),
        ("text", False),
        ("timeout: ${NOT_SET_ANYWHERE}", False),
    ],
)
def test_idle(text: str, idle: bool) -> None:  # noqa: FBT001 — a column of the table
    """Pydantic is imported only if there is something to load, to join or to report."""
    assert idle is seen(text).is_idle
