"""Choose the replica for a prompt: one that holds its set; another one only if none does, or all stay full.

Serve's default router tries any replica as soon as one attempt fails, and lets a waiting request have
whichever replica is free: with few replicas and several sets, each burst and each lost replica then makes
replicas exchange their sets again and again.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from typing import Any

from ray.serve.request_router import PendingRequest, ReplicaID, RequestRouter, RunningReplica

ANNOUNCED = 2.0
"""Seconds within which a replica that was given the first prompt for a set is known to load it."""


class SetRouter(RequestRouter):
    """The shorter of two queues among the holders of a set.

    Serve asks the queues and waits where all are full.
    """

    def initialize_state(self, **kwargs: Any) -> None:
        """Take `spill_after_s`.

        How long a prompt waits for the holders of its set before another replica loads it.
        """
        self._spill_after_s = float(kwargs["spill_after_s"])
        self._given: dict[str, tuple[float, ReplicaID]] = {}

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """Return the replicas to try, in this order."""
        if pending_request is None or not pending_request.metadata.multiplexed_model_id:
            return [_two(candidate_replicas)]
        pending_request.routing_context.should_backoff = True
        name = pending_request.metadata.multiplexed_model_id
        at, given = self._given.get(name, (0.0, None))
        holders = [
            one
            for one in candidate_replicas
            if name in one.multiplexed_model_ids or (one.replica_id == given and time.time() - at < ANNOUNCED)
        ]
        if holders and time.time() - pending_request.created_at < self._spill_after_s:
            return [_two(holders)]
        others = [one for one in candidate_replicas if one not in holders]
        return [_two(holders), _two(_to_spare(others, candidate_replicas)), _two(others)]

    def on_request_routed(self, pending_request: PendingRequest, replica_id: ReplicaID, *_: Any) -> None:
        """Remember who was given a prompt for a set: it takes Serve a moment to hear that it loads it."""
        self._given[pending_request.metadata.multiplexed_model_id] = time.time(), replica_id


def _to_spare(
    others: Sequence[RunningReplica], all_of_them: Sequence[RunningReplica]
) -> list[RunningReplica]:
    """The replicas whose sets are all held elsewhere too."""
    held = [name for one in all_of_them for name in one.multiplexed_model_ids]
    return [one for one in others if all(held.count(name) > 1 for name in one.multiplexed_model_ids)]


def _two(among: Sequence[RunningReplica]) -> list[RunningReplica]:
    return random.sample(list(among), min(2, len(among)))
