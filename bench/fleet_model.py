"""A discrete-event simulation of a fleet: replicas, nodes, models and a gateway.

It uses simulated time only.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum

VIEW = 1.0
"""Age in seconds of the queues that a gateway knows: replicas report twice a second, and read every two
seconds."""


BACKOFF = 0.1
"""Seconds after which Ray Serve offers a request again that no replica took."""


class Policy(Enum):
    """How models are placed on replicas, and how requests are routed."""

    LAZY = "lazy loading"
    WARM_UP = "warm-up by client"
    OURS = "Comfy Preload"
    LOCATE = "Comfy Preload with locate"
    RAY = "Ray Serve"

    @property
    def pins(self) -> bool:
        return self in (Policy.OURS, Policy.LOCATE)

    def preloaded(self, pinned: tuple[int, ...]) -> tuple[int, ...]:
        """Return the models that a new replica loads before it is ready."""
        return pinned if self.pins else pinned[:1] if self is Policy.RAY else ()


@dataclass(frozen=True)
class Times:
    """Durations in seconds, as measured for one process."""

    listening: float
    """From the start of the process until its port is open, with nothing preloaded."""
    preload: float
    """Additional time until the port is open, for each preloaded model."""
    image: float
    """One prompt whose model is on the device."""
    cold: float
    """Additional time for the first use of a model, file on the disk."""
    reload: float
    """Additional time for a model that another one displaced, file in the page cache."""


@dataclass(frozen=True)
class Shape:
    """The fleet and its requests."""

    replicas: int = 12
    nodes: int = 4
    models: int = 6
    capacity: int = 2
    """Number of models that fit on a device."""
    skew: float = 0.8
    """Exponent of Zipf's law for the demand."""
    new_node_at: float | None = None
    """When one more node with its replicas starts."""
    loss_at: float | None = None
    """When the first node fails; if it is `replaced`, the same number of replicas starts elsewhere."""
    replaced: bool = True
    detect: float = 1.0
    """Seconds until a client whose request is on a lost replica, or is routed to one, sends it elsewhere."""
    forget: float = 8.0
    """Seconds for which locate still lists a lost replica."""
    ongoing: int = 4
    """Requests that Ray Serve gives to a replica at once (`max_ongoing_requests`)."""
    spill_after: float = 5.0
    """Seconds that a request waits for those that hold its model, before another replica loads it."""

    def popularity(self) -> list[float]:
        return [1 / (rank + 1) ** self.skew for rank in range(self.models)]


@dataclass(frozen=True)
class Arrival:
    at: float
    model: int


@dataclass(frozen=True)
class Outcome:
    """The results of one run. `seconds`: from request to image, in the order of arrival."""

    seconds: tuple[float, ...]
    loading: float
    """GPU-seconds of loading while a request waited."""
    busy: float
    """GPU-seconds of loading and of images."""


@dataclass(eq=False)
class _Replica:
    node: set[int]
    """Models in the page cache of its node; shared by its replicas."""
    pinned: tuple[int, ...]
    up_at: float
    resident: OrderedDict[int, None] = field(default_factory=OrderedDict[int, None])
    queue: deque[int | Arrival] = field(default_factory=deque[int | Arrival])
    """A number stands for a warm-up of that model."""
    current: int | Arrival | None = None
    lost_at: float | None = None
    seen: tuple[float, int] = (-VIEW, 0)

    def length(self, now: float) -> int:
        """The length of its queue, as a gateway knows it."""
        if now - self.seen[0] >= VIEW:
            self.seen = (now, len(self.queue) + (self.current is not None))
        return self.seen[1]


class Simulation:
    """One simulation run. Every replica works on one request at a time, in order of arrival."""

    def __init__(
        self, policy: Policy, times: Times, shape: Shape, arrivals: Sequence[Arrival], *, seed: int = 0
    ) -> None:
        self._policy = policy
        self._times = times
        self._shape = shape
        self._random = random.Random(seed)  # noqa: S311 — a simulation
        self._events: list[tuple[float, int, Callable[[float], None]]] = []
        self._number = itertools.count()
        self._rank = itertools.count()
        self._pins = self._assign()
        self._arrivals = arrivals
        self._done: dict[Arrival, float] = {}
        self._loading = self._busy = 0.0
        self.replicas: list[_Replica] = []
        each = shape.replicas // shape.nodes
        for _ in range(shape.nodes):
            self._start_node(each, -1000.0)
        for one in self.replicas:
            self._settle_in(one)
        if shape.new_node_at is not None:
            self._at(shape.new_node_at, lambda now: self._start_node(each, now))
        if shape.loss_at is not None:
            self._at(shape.loss_at, lambda now: self._lose(self.replicas[:each], now))
        for arrival in arrivals:
            self._at(arrival.at, lambda now, one=arrival: self._route(one, now))

    def run(self) -> Outcome:
        while self._events:
            now, _, act = heapq.heappop(self._events)
            act(now)
        return Outcome(tuple(self._done[one] - one.at for one in self._arrivals), self._loading, self._busy)

    def _at(self, when: float, act: Callable[[float], None]) -> None:
        heapq.heappush(self._events, (when, next(self._number), act))

    def _assign(self) -> Iterator[tuple[int, ...]]:
        """Return the models of each replica: the most requested, or with locate in proportion to demand."""
        wanted, counts = self._shape.popularity(), [0] * self._shape.models
        while True:
            if self._policy is Policy.RAY:  # the first by rank, the others as requests have brought them
                first = next(self._rank) % self._shape.models
                rest = [m for m in range(self._shape.models) if m != first]
                self._random.shuffle(rest)
                yield (first, *rest[: self._shape.capacity - 1])
                continue
            if self._policy is not Policy.LOCATE:
                yield tuple(range(self._shape.capacity))
                continue
            chosen: list[int] = []
            for _ in range(self._shape.capacity):
                rest = [m for m in range(self._shape.models) if m not in chosen]
                chosen.append(max(rest, key=lambda m: wanted[m] / (counts[m] + 1)))
                counts[chosen[-1]] += 1
            yield tuple(chosen)

    def _start_node(self, count: int, now: float) -> None:
        node: set[int] = set()
        for _ in range(count):
            pinned = next(self._pins)
            loaded = self._policy.preloaded(pinned)
            wait = self._times.listening + self._times.preload * len(loaded)
            one = _Replica(node, pinned, now + wait)
            one.resident.update(dict.fromkeys(loaded))
            self._at(now + wait, lambda _, models=loaded: node.update(models))
            if self._policy is Policy.WARM_UP:
                one.queue.extend(pinned)
                self._at(now + wait, lambda now, one=one: self._next(one, now))
            self.replicas.append(one)

    def _settle_in(self, one: _Replica) -> None:
        """Start with a fleet that has run for long: every file was read once, and every device is full."""
        one.node.update(range(self._shape.models))
        one.queue.clear()
        one.resident.update(dict.fromkeys(one.pinned))

    def _lose(self, lost: Sequence[_Replica], now: float) -> None:
        for one in lost:
            one.lost_at = now
            for request in (one.current, *one.queue):
                if isinstance(request, Arrival):
                    self._at(
                        now + self._shape.detect, lambda then, request=request: self._route(request, then)
                    )
            one.queue.clear()
            one.current = None
        if self._shape.replaced:
            self._start_node(len(lost), now)

    def _route(self, request: Arrival, now: float) -> None:
        listed = [
            r
            for r in self.replicas
            if r.up_at <= now and (r.lost_at is None or now - r.lost_at < self._shape.forget)
        ]
        if not listed:
            self._at(
                min(r.up_at for r in self.replicas if r.lost_at is None),
                lambda then: self._route(request, then),
            )
            return
        if self._policy is Policy.RAY:
            self._serve(request, [r for r in listed if r.lost_at is None], now)
            return
        warm = [r for r in listed if request.model in r.pinned] if self._policy is Policy.LOCATE else []
        among = warm or listed
        least = min(r.length(now) for r in among)
        chosen = self._random.choice([r for r in among if r.length(now) <= least + 1])
        if chosen.lost_at is not None:  # the connection fails: choose another replica
            alive = [r for r in listed if r.lost_at is None]
            if not alive:
                self._at(now + self._shape.detect, lambda then: self._route(request, then))
                return
            chosen = self._random.choice(alive)
            self._at(now + self._shape.detect, lambda then: self._put(chosen, request, then))
            return
        self._put(chosen, request, now)

    def _serve(self, request: Arrival, alive: Sequence[_Replica], now: float) -> None:
        """Offer the request to two that hold its model, later to any two.

        The shorter queue, if it is not full.
        """
        holders = [r for r in alive if request.model in r.resident]
        spill = not holders or now - request.at >= self._shape.spill_after
        for among in (holders, alive if spill else ()):
            two = self._random.sample(list(among), min(2, len(among)))
            chosen = min(two, key=lambda r: len(r.queue) + (r.current is not None), default=None)
            if chosen and len(chosen.queue) + (chosen.current is not None) < self._shape.ongoing:
                self._put(chosen, request, now)
                return
        self._at(now + BACKOFF, lambda then: self._route(request, then))

    def _put(self, one: _Replica, request: Arrival, now: float) -> None:
        if one.lost_at is not None:
            self._route(request, now)
            return
        one.queue.append(request)
        self._next(one, now)

    def _next(self, one: _Replica, now: float) -> None:
        if one.current is not None or not one.queue or now < one.up_at or one.lost_at is not None:
            return
        request = one.current = one.queue.popleft()
        model = request.model if isinstance(request, Arrival) else request
        extra = self._load(one, model)
        self._loading += extra
        self._busy += extra + self._times.image
        self._at(now + extra + self._times.image, lambda then: self._finish(one, request, then))

    def _load(self, one: _Replica, model: int) -> float:
        """Return the seconds until the model is on the device."""
        if model in one.resident:
            one.resident.move_to_end(model)
            return 0.0
        extra = self._times.reload if model in one.node else self._times.cold
        one.node.add(model)
        if not self._policy.pins:
            one.resident[model] = None
            if len(one.resident) > self._shape.capacity:
                one.resident.popitem(last=False)
        return extra

    def _finish(self, one: _Replica, request: int | Arrival, now: float) -> None:
        if one.current is not request:  # it was lost with its replica
            return
        one.current = None
        if isinstance(request, Arrival):
            self._done[request] = now
        self._next(one, now)


def poisson(shape: Shape, rates: Sequence[tuple[float, float]], *, seed: int) -> list[Arrival]:
    """Return random requests. `rates`: (until when, requests per second), in order."""
    chance = random.Random(seed)  # noqa: S311 — a simulation
    found: list[Arrival] = []
    now = 0.0
    for until, rate in rates:
        while (now := now + chance.expovariate(rate)) < until:
            found.append(Arrival(now, chance.choices(range(shape.models), shape.popularity())[0]))
        now = until
    return found
