"""Read the keys of preload.yaml that start-up needs, without pydantic.

`prestartup_script.py` runs before ComfyUI imports anything heavy, and an empty list of models must cost
nothing. An invalid value is replaced by its default here; `validation.py` reports it later. The limits and
defaults are defined here, and `schema.py` uses them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from comfy_preload.core.settings.document import Document

DEFAULT_MEMORY_SHARE = 0.8
DEFAULT_HOLD_LIMIT = 600.0
MAX_SECONDS = 86_400
HOLD_POINTS = ("imports", "loaded", "warm")
SNAPSHOT_PROVIDERS = ("auto", "dynamo", "gvisor", "command", "file")
MAX_READERS = 64
MAX_PORT = 65_535
REDIS_URL = re.compile(r"rediss?(\+cluster|\+sentinel)?://\S+")
ADVERTISED_URL = re.compile(r"https?://[^\s/?#@\"'<>]{1,255}(/[^\s?#\"'<>]{0,200})?")
"""Without user and password, because every replica can read it."""
REGISTRY_ID = re.compile(r"[A-Za-z0-9_.:\[\]-]{1,100}")
REGISTRY_PREFIX = re.compile(r"[A-Za-z0-9_.:-]{1,100}")
REGISTRY_ACCESS = ("open", "token")
DEFAULT_PREFIX = "comfy-preload"
PASSIVE_KEYS = frozenset(
    {
        "when",
        "models",
        "workflows",
        "on_error",
        "timeout",
        "drain",
        "memory_floor",
        "prefetch",
        "probe",
        "commands",
    }
)
"""Keys that start nothing by themselves: all except `registry` and `snapshot`."""


class CommandsMode(str, Enum):
    """`commands:`, who may give commands."""

    LOOPBACK = "loopback"
    """This machine, or who has the token."""
    TOKEN = "token"  # noqa: S105 — a word of the settings
    """Only who has the token."""
    OFF = "off"
    """Nobody."""


@dataclass(frozen=True)
class PrefetchGlance:
    """`prefetch:`, see `schema.PrefetchOptions`."""

    enabled: bool = True
    readers: int | None = None
    """Number of threads; None for `auto`."""
    libraries: bool = True
    memory: float = DEFAULT_MEMORY_SHARE


@dataclass(frozen=True)
class SnapshotGlance:
    """`snapshot:`, see `schema.SnapshotOptions`."""

    when: str = "imports"
    provider: str = "auto"
    path: str | None = None
    command: tuple[str, ...] = ()
    environment: str | None = None
    limit: float = DEFAULT_HOLD_LIMIT


@dataclass(frozen=True)
class Glance:
    """The parts of the settings file that start-up needs."""

    models: tuple[Any, ...] = ()
    """The entries as they are in the file."""
    workflows: tuple[str, ...] = ()
    """The paths of the entries."""
    off: bool = False
    """`when: off`."""
    prefetch: PrefetchGlance = PrefetchGlance()
    probe_port: int | None = None
    registry: Any = None
    """The value in the file, or None."""
    commands: CommandsMode = CommandsMode.LOOPBACK
    """OFF also for an unknown value: a typo must not allow anything."""
    snapshot: SnapshotGlance | None = None
    needs_validation: bool = False
    """Whether there may be something to report: problems of the text, not a mapping, or an unknown key."""

    @property
    def is_idle(self) -> bool:
        """Return whether there is nothing to preload, to join, to hold for or to report."""
        return not (self.models or self.workflows or self.registry or self.snapshot or self.needs_validation)


def glance(document: Document) -> Glance:
    """Read the parts that start-up needs. Never raises."""
    data = {} if document.data is None else document.data
    if not isinstance(data, dict):
        return Glance(commands=CommandsMode.OFF, needs_validation=True)
    return Glance(
        models=tuple(_list(data.get("models"))),
        workflows=tuple(_paths(_list(data.get("workflows")))),
        off=data.get("when") in (False, "off"),  # YAML 1.1 reads a bare `off` as false
        prefetch=_prefetch(data.get("prefetch")),
        probe_port=_port(data.get("probe")),
        registry=data.get("registry"),
        commands=_commands(data.get("commands", CommandsMode.LOOPBACK)),
        snapshot=_snapshot(data.get("snapshot")),
        needs_validation=bool(document.problems) or not _fits(data),
    )


def _fits(data: Mapping[str, Any]) -> bool:
    lists = (data.get(key) for key in ("models", "workflows"))
    known = data.keys() <= PASSIVE_KEYS | {"registry", "snapshot"} and data.get("commands", "off") in (
        False,
        *CommandsMode,
    )
    return known and all(isinstance(one, list | None) for one in lists)


def _commands(value: Any) -> CommandsMode:
    return CommandsMode(value) if value in tuple(CommandsMode) else CommandsMode.OFF


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _paths(entries: list[Any]) -> list[str]:
    paths = (entry.get("path") for entry in entries if isinstance(entry, dict))
    return [path for path in paths if isinstance(path, str) and path]


def _prefetch(given: Any) -> PrefetchGlance:
    options = given if isinstance(given, dict) else {}
    memory = _number(options.get("memory"), 0, 1)
    return PrefetchGlance(
        enabled=options.get("enabled", True) is True,
        readers=_integer(options.get("readers"), 1, MAX_READERS),
        libraries=options.get("libraries", True) is True,
        memory=DEFAULT_MEMORY_SHARE if memory is None else memory,
    )


def _snapshot(given: Any) -> SnapshotGlance | None:
    """None for anything but a mapping whose words are known: a typo must not stop a start."""
    if not isinstance(given, dict):
        return None
    when, provider = given.get("when", "imports"), given.get("provider", "auto")
    command, limit = given.get("command"), _number(given.get("limit", DEFAULT_HOLD_LIMIT), 0, MAX_SECONDS)
    if when not in HOLD_POINTS or provider not in SNAPSHOT_PROVIDERS or not limit:
        return None
    words = command if isinstance(command, list) else []
    return SnapshotGlance(
        when,
        provider,
        path=_text(given.get("path")),
        command=tuple(word for word in words if isinstance(word, str)),
        environment=_text(given.get("environment")),
        limit=limit,
    )


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _port(given: Any) -> int | None:
    return _integer(given.get("port"), 1, MAX_PORT) if isinstance(given, dict) else None


def _integer(value: Any, least: int, most: int) -> int | None:
    number = _number(value, least, most)
    return int(number) if isinstance(value, int) and number is not None else None


def _number(value: Any, least: float, most: float) -> float | None:
    return value if isinstance(value, int | float) and least <= value <= most else None
