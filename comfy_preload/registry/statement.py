"""What one replica says of itself: the entry, as it is written to Redis and as it is believed when read.

Other replicas may be newer, older, broken or malicious: nothing is believed that has not the right type and a sane size.
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
"""Of the entry. Others are ignored: fields may be added without a new one, never changed."""
MAX_BYTES = 384 << 10
LONGEST_NAME = 500
"""Models with longer names are not told: nobody could ask for them."""
MOST_MODELS = 100
"""So many models are told, those on the device first."""
TTL = 8.0
"""Seconds after which a replica that is silent is gone."""
SKEW = 5.0
"""Seconds that an entry may be from the future: entries are dated by Redis' clock, so it is not a matter of clocks."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_WORD = re.compile(r"[\x21-\x7e]{1,100}")
_MOST_BYTES = 1 << 50
_MOST_QUEUED = 1_000_000


class RefusedError(Exception):
    """An entry that is not believed. `reason` is one of REASONS."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


REASONS = ("malformed", "too_large", "other_format", "future", "expired")


@dataclass(frozen=True)
class Held:
    """A model that a replica has loaded."""

    name: str
    content: str | None
    """Equal where the files are (`identity.py`); None while it is not known."""
    state: str
    device: str | None
    bytes: int
    bytes_on_device: int

    @property
    def on_device(self) -> bool:
        """No weight has to be moved to use it: the state is measured; `device: ram` is `resident` with nothing there."""
        there = self.state in (ModelState.RESIDENT.value, ModelState.WARM.value)
        return there and (self.bytes_on_device > 0 or not self.bytes)


@dataclass(frozen=True)
class Entry:
    """One replica at one moment."""

    id: str
    instance: str
    """Of the process, random: two processes with one `id` are told apart by it."""
    address: str
    version: str
    status: str
    ready: bool
    queue: int
    models: tuple[Held, ...]
    models_total: int
    updated: float
    """Unix time by Redis' clock."""
    format: int = FORMAT

    def same_but_for_time(self, other: Entry | None) -> bool:
        return other is not None and replace(other, updated=self.updated) == self

    def check_age(self, now: float) -> None:
        """Raises RefusedError. `now` by Redis' clock."""
        if self.updated > now + SKEW:
            raise RefusedError("future")
        if self.updated < now - TTL:
            raise RefusedError("expired")


def entry(
    now: Snapshot,
    contents: Mapping[str, str | None],
    *,
    id: str,  # noqa: A002 — the field's name
    instance: str,
    address: str,
    version: str,
) -> Entry:
    """What to say of this process. `contents`: identity by name of model."""
    loaded = [
        _held(m, contents.get(m.name)) for m in now.models if m.state.loaded and len(m.name) <= LONGEST_NAME
    ]
    loaded.sort(key=lambda held: not held.on_device)
    return Entry(
        id=id,
        instance=instance,
        address=address,
        version=version,
        status=now.status.value,
        ready=now.serves,
        queue=min(now.queue_remaining, _MOST_QUEUED),
        models=tuple(loaded[:MOST_MODELS]),
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


def encode(given: Entry) -> bytes:
    """ASCII, whatever the names are, so that no client of Redis can get them wrong. Too large, and models are left out."""
    raw = json.dumps(asdict(given), separators=(",", ":"), allow_nan=False).encode()
    return (
        raw
        if len(raw) <= MAX_BYTES
        else encode(replace(given, models=given.models[: len(given.models) // 2]))
    )


def decode(raw: bytes, *, key: str) -> Entry:
    """Raises RefusedError. `key`: the id under which it was found. Its age is another question: `check_age`."""
    if len(raw) > MAX_BYTES:
        raise RefusedError("too_large")
    try:
        told = json.loads(raw)
        found = _entry(told) if told["format"] == FORMAT else None
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError) as error:
        raise RefusedError("malformed") from error
    if found is None:
        raise RefusedError("other_format")
    if found.id != key:
        raise RefusedError("malformed")
    return found


def _entry(told: Mapping[str, Any]) -> Entry:
    models = told["models"]
    if not isinstance(models, list) or len(models) > MOST_MODELS:
        raise ValueError("models")
    return Entry(
        id=_text(told["id"], 100, _WORD),
        instance=_text(told["instance"], 100, _WORD),
        address=_text(told["address"], 500, ADVERTISED_URL),
        version=_text(told["version"], 50),
        status=_text(told["status"], 50, _WORD),
        ready=_truth(told["ready"]),
        queue=_number(told["queue"], _MOST_QUEUED),
        models=tuple(_models(models)),
        models_total=_number(told["models_total"], 1_000_000),
        updated=_time(told["updated"]),
    )


def _models(told: Iterable[Any]) -> Iterable[Held]:
    for one in told:
        content, device = one["content"], one["device"]
        yield Held(
            name=_text(one["name"], LONGEST_NAME),
            content=None if content is None else _text(content, 100, _WORD),
            state=_text(one["state"], 50, _WORD),
            device=None if device is None else _text(device, 50),
            bytes=_number(one["bytes"], _MOST_BYTES),
            bytes_on_device=_number(one["bytes_on_device"], _MOST_BYTES),
        )


def _text(value: Any, most: int, pattern: re.Pattern[str] | None = None) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= most or _CONTROL.search(value):
        raise ValueError("text")
    if pattern is not None and not pattern.fullmatch(value):
        raise ValueError("text")
    return value


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError("truth")
    return value


def _number(value: Any, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise ValueError("number")
    return value


def _time(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("time")
    return float(value)
