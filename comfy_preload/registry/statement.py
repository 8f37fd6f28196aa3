"""What one replica states about itself, written to Redis and read back from the other replicas.

Other replicas may be newer, older, broken or malicious: every field is checked for type and size.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from comfy_preload.core.settings.glance import ADVERTISED_URL
from comfy_preload.core.state.snapshot import Model, ModelState, Snapshot

FORMAT = 1
"""Of a statement; those of another format are ignored.

Fields may be added without a new number, never changed.
"""
MAX_BYTES = 384 << 10
"""Of one encoded statement."""
MAX_NAME = 500
"""Models with longer names are left out: nobody could ask for them."""
MAX_MODELS = 100
"""Models in one statement at most, those on the device first."""
TTL = 8.0
"""Seconds after which a silent replica counts as gone."""
SKEW = 5.0
"""Seconds that a statement may be dated ahead.

All are dated by Redis' clock, so the nodes' clocks do not matter.
"""

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_WORD = re.compile(r"[\x21-\x7e]{1,100}")
_MAX_WEIGHTS = 1 << 50
_MAX_QUEUE = 1_000_000


class RefusedError(Exception):
    """A statement that is ignored. `reason` is one of REASONS."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


REASONS = ("malformed", "too_large", "other_format", "future", "expired")


@dataclass(frozen=True)
class Held:
    """A model that a replica has loaded."""

    name: str
    content: str | None
    """The identity of its files' content (`identity.py`); None while it is not known."""
    state: str
    device: str | None
    bytes: int
    bytes_on_device: int

    @property
    def at_place(self) -> bool:
        """Is it where the settings want it: on the device, or in memory with `device: ram`?"""
        return self.state in (ModelState.WARM.value, ModelState.RESIDENT.value)

    @property
    def on_device(self) -> bool:
        """No weight has to be moved to use it.

        The state is measured; `device: ram` is `resident` with nothing there.
        """
        there = self.state in (ModelState.RESIDENT.value, ModelState.WARM.value)
        return there and (self.bytes_on_device > 0 or not self.bytes)


@dataclass(frozen=True)
class Statement:
    """One replica at one moment."""

    id: str
    instance: str
    """A random name of the process: it distinguishes two processes with one `id`."""
    address: str
    version: str
    status: str
    ready: bool
    queue: int
    models: tuple[Held, ...]
    models_total: int
    updated: float
    """Unix time, by Redis' clock."""
    format: int = FORMAT

    def same_but_for_time(self, other: Statement | None) -> bool:
        return other is not None and replace(other, updated=self.updated) == self

    def check_age(self, now: float) -> None:
        """Raise RefusedError if it is too old or from the future. `now`: Unix time, by Redis' clock."""
        if self.updated > now + SKEW:
            raise RefusedError("future")
        if self.updated < now - TTL:
            raise RefusedError("expired")


def statement_of(
    now: Snapshot,
    contents: Mapping[str, str | None],
    *,
    id: str,  # noqa: A002 — the field's name
    instance: str,
    address: str,
    version: str,
) -> Statement:
    """Describe this process. `contents`: the identity of each model's content, by name."""
    loaded = [
        _held(m, contents.get(m.name)) for m in now.models if m.state.loaded and len(m.name) <= MAX_NAME
    ]
    loaded.sort(key=lambda held: not held.on_device)
    return Statement(
        id=id,
        instance=instance,
        address=address,
        version=version,
        status=now.status.value,
        ready=now.serves,
        queue=min(now.queue_remaining, _MAX_QUEUE),
        models=tuple(loaded[:MAX_MODELS]),
        models_total=len(loaded),
        updated=0.0,
    )


def _held(model: Model, content: str | None) -> Held:
    return Held(
        model.name,
        content,
        model.state.value,
        model.device and model.device[:50],
        model.bytes,
        model.bytes_on_device,
    )


def encode(given: Statement) -> bytes:
    """Write it as JSON in ASCII, which no client of Redis misreads.

    Beyond MAX_BYTES, models are left out from the end.
    """
    raw = json.dumps(asdict(given), separators=(",", ":"), allow_nan=False).encode()
    if len(raw) <= MAX_BYTES:
        return raw
    return encode(replace(given, models=given.models[: len(given.models) // 2]))


def decode(raw: bytes, *, key: str) -> Statement:
    """Read a statement found under the id `key`.

    Raises RefusedError. Does not look at its age: see `check_age`.
    """
    if len(raw) > MAX_BYTES:
        raise RefusedError("too_large")
    try:
        data = json.loads(raw)
        found = _statement(data) if data["format"] == FORMAT else None
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError) as error:
        raise RefusedError("malformed") from error
    if found is None:
        raise RefusedError("other_format")
    if found.id != key:
        raise RefusedError("malformed")
    return found


def _statement(data: Mapping[str, Any]) -> Statement:
    models = data["models"]
    if not isinstance(models, list) or len(models) > MAX_MODELS:
        raise ValueError("models")
    return Statement(
        id=_text(data["id"], 100, _WORD),
        instance=_text(data["instance"], 100, _WORD),
        address=_text(data["address"], 500, ADVERTISED_URL),
        version=_text(data["version"], 50),
        status=_text(data["status"], 50, _WORD),
        ready=_flag(data["ready"]),
        queue=_number(data["queue"], _MAX_QUEUE),
        models=tuple(_models(models)),
        models_total=_number(data["models_total"], 1_000_000),
        updated=_time(data["updated"]),
    )


def _models(data: Iterable[Any]) -> Iterable[Held]:
    for one in data:
        content, device = one["content"], one["device"]
        yield Held(
            name=_text(one["name"], MAX_NAME),
            content=None if content is None else _text(content, 100, _WORD),
            state=_text(one["state"], 50, _WORD),
            device=None if device is None else _text(device, 50),
            bytes=_number(one["bytes"], _MAX_WEIGHTS),
            bytes_on_device=_number(one["bytes_on_device"], _MAX_WEIGHTS),
        )


def _text(value: Any, limit: int, pattern: re.Pattern[str] | None = None) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= limit or _CONTROL.search(value):
        raise ValueError("text")
    if pattern is not None and not pattern.fullmatch(value):
        raise ValueError("text")
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError("flag")
    return value


def _number(value: Any, limit: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= limit:
        raise ValueError("number")
    return value


def _time(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("time")
    return float(value)
