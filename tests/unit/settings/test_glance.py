"""What start-up reads of the settings without pydantic is what pydantic would make of them."""

from __future__ import annotations

from typing import Any

import pytest

from comfy_preload.core.settings.document import parse
from comfy_preload.core.settings.glance import Glance, PrefetchGlance, SnapshotGlance, glance
from comfy_preload.core.settings.schema import Options
from comfy_preload.core.settings.validation import validate


def seen(text: str) -> Glance:
    return glance(parse(text))


def validated(options: Options) -> tuple[Any, ...]:
    ahead = options.prefetch
    readers = None if ahead.readers == "auto" else ahead.readers
    glanced = PrefetchGlance(ahead.enabled, readers, ahead.libraries, ahead.memory)
    held = options.snapshot
    snapshot = held and SnapshotGlance(
        held.when, held.provider, held.path, tuple(held.command), held.environment, held.limit
    )
    return glanced, options.probe.port, options.when == "off", snapshot


@pytest.mark.parametrize(
    "text",
    [
        "",
        "when: off",
        "when: background",
        "prefetch: {enabled: false}",
        "prefetch: {readers: 8, memory: 0.5, libraries: false}",
        "prefetch: {readers: 64, memory: 1}",
        "prefetch: {readers: auto, memory: 0}",
        "probe: {port: 9188}",
        "probe: {}",
        "snapshot: {}",
        "snapshot: {when: loaded, limit: 5, environment: /proc/1/environ}",
        "snapshot: {when: warm, provider: dynamo, path: /control}",
        "snapshot: {provider: command, command: [a, b]}",
        "snapshot: {provider: file, path: /tmp/ready-for-checkpoint}",
    ],
)
def test_same_as_validation(text: str) -> None:
    """Defaults and given values are the same on both readings."""
    settings, found = validate(parse(text)), seen(text)

    assert () == settings.problems
    assert validated(settings.options) == (
        found.prefetch,
        found.probe_port,
        found.off,
        found.snapshot,
    )


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
        "snapshot: {when: never}",
        "snapshot: {provider: criu}",
        "snapshot: {limit: 0}",
        "snapshot: loaded",
    ],
)
def test_bad_value(text: str) -> None:
    """A value that validation refuses is replaced by its default.

    Start-up goes on, and the mistake is reported later.
    """
    assert validate(parse(text)).problems
    found = seen(text)
    assert (PrefetchGlance(), None, None) == (found.prefetch, found.probe_port, found.snapshot)


@pytest.mark.parametrize(
    ("text", "idle"),
    [
        ("", True),
        ("models: []\nworkflows: []", True),
        ("when: off\ntimeout: 5", True),
        ("models: [{vae: a}]", False),
        ("workflows: [{path: a.json}]", False),
        ("registry: {redis: x}", False),
        ("snapshot: {when: imports}", False),
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
