"""The fleet as this replica knows it.

An immutable value, made by the registry's thread and read by request handlers.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from comfy_preload.core.errors import Problem
from comfy_preload.registry.statement import Held, RefusedError, Statement


@dataclass(frozen=True)
class Fleet:
    """The replicas known at one moment, this one included, even while Redis is unavailable."""

    own: Statement
    others: tuple[Statement, ...] = ()
    """As last read. Whether one has expired is decided when the fleet is asked for."""
    ignored: Mapping[str, int] = field(default_factory=dict[str, int])
    """How many statements were ignored in the last exchange, by reason."""
    connected: bool = False
    problems: tuple[Problem, ...] = ()
    offset: float = 0.0
    """Redis' clock minus ours, seconds."""
    guarded: bool = False
    """Whether it is shown only with the token (`registry.access: token`)."""

    def listing(self, now: float | None = None) -> dict[str, Any]:
        """Return the body of `/preload/replicas`. `now`: Unix time, by our clock."""
        at = (time.time() if now is None else now) + self.offset
        ignored = Counter(self.ignored)
        alive = [self.own, *self._alive(at, ignored)]
        return {
            "connected": self.connected,
            "id": self.own.id,
            "clock_offset": round(self.offset, 3),
            "replicas": [_row(one, at) for one in sorted(alive, key=lambda one: one.id)],
            "ignored": dict(ignored),
            "problems": [p.as_json() for p in self.problems],
        }

    def locate(self, wanted: Sequence[Collection[str]], now: float | None = None) -> dict[str, Any]:
        """Return the body of `/preload/locate`.

        The ready replicas that have loaded all these models, highest score first.

        Each model is given as the words that may mean it: its name, or the identity of its content. The score
        is 1 where all are at their place, and half of that where one must be moved there from memory, divided
        by the queue and one: a long queue is worse than weights to move.
        """
        at = (time.time() if now is None else now) + self.offset
        found: list[tuple[Statement, list[Held]]] = []
        for one in (self.own, *self._alive(at, Counter())):
            held = [_find(one, words) for words in wanted] if one.ready else []
            there = [model for model in held if model is not None]
            if wanted and len(there) == len(wanted):
                found.append((one, there))
        found.sort(key=lambda pair: (-_score(*pair), pair[0].id))
        return {
            "connected": self.connected,
            "replicas": [
                {
                    "id": one.id,
                    "address": one.address,
                    "queue": one.queue,
                    "score": round(_score(one, held), 4),
                    "at_place": all(model.at_place for model in held),
                    "age": _age(one, at),
                    "models": [_model(m) for m in held],
                }
                for one, held in found
            ],
        }

    def _alive(self, now: float, ignored: Counter[str]) -> Iterator[Statement]:
        for one in self.others:
            if one.id == self.own.id:
                continue
            try:
                one.check_age(now)
            except RefusedError as refused:
                ignored[refused.reason] += 1
            else:
                yield one


def _find(one: Statement, words: Collection[str]) -> Held | None:
    return next((held for held in one.models if held.name in words or held.content in words), None)


def _score(one: Statement, held: Sequence[Held]) -> float:
    return (1.0 if all(model.at_place for model in held) else 0.5) / (1 + one.queue)


def _row(one: Statement, now: float) -> dict[str, Any]:
    return {
        "id": one.id,
        "address": one.address,
        "version": one.version,
        "format": one.format,
        "status": one.status,
        "ready": one.ready,
        "queue": one.queue,
        "age": _age(one, now),
        "models": [_model(held) for held in one.models],
        "models_total": one.models_total,
    }


def _model(held: Held) -> dict[str, Any]:
    return {**asdict(held), "on_device": held.on_device}


def _age(one: Statement, now: float) -> float:
    return round(max(0.0, now - one.updated), 3)
