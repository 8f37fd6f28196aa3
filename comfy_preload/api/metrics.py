"""Convert a snapshot into Prometheus text, computed at scrape time; keep no counters of our own.

Imported only when metrics are requested: it needs prometheus_client, which ComfyUI does not install.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from comfy_preload.api.families import counter, gauge, labelled, one_of, plain
from comfy_preload.core.planning.rows import WarmUpState
from comfy_preload.core.state.jobs import JobState
from comfy_preload.core.state.snapshot import Model, ModelState, Snapshot, Status
from comfy_preload.core.state.startup import StartStage

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
MAX_SERIES = 200
"""At most this many models, warm-ups and loaders have their own series.

`comfyui_preload_models` counts all.
"""
MAX_LABEL_BYTES = 1024
"""Of a label with several names; Mimir rejects labels of more than 2048."""
_SINCE = {"model": "loaded", "workflow": "planned"}
_TO_COME = (ModelState.PENDING, ModelState.READING, ModelState.LOADING)


class Scrape(NamedTuple):
    """The text of one scrape, and its type."""

    text: bytes
    content_type: str


def render(now: Snapshot, connected: bool | None = None, accept: str = "") -> Scrape:  # noqa: FBT001 — a fact
    """Return one scrape, from a registry of our own: other plugins' metrics are not included.

    `accept` is the header of the request. OpenMetrics if it asks for that, as Prometheus does; else
    Prometheus's text format 0.0.4.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(SnapshotCollector(now, connected))
    if "application/openmetrics-text" in accept:
        return Scrape(openmetrics.generate_latest(registry), OPENMETRICS)
    return Scrape(generate_latest(registry), TEXT)


class SnapshotCollector(Collector):
    """Every metric of one snapshot. Without `describe`: `collect` provides the names."""

    def __init__(self, now: Snapshot, connected: bool | None = None) -> None:  # noqa: FBT001 — a fact
        """`connected`: whether the registry's Redis answers; None without a registry."""
        self._now = now
        self._connected = connected
        self._models = now.models[:MAX_SERIES]

    def collect(self) -> Iterator[Metric]:
        yield from self._state()
        yield from self._start()
        yield from self._work()
        yield from self._per_model()
        yield from self._served()
        yield from self._warmups()
        yield self._residency()
        yield from self._counted()
        if self._connected is not None:
            yield gauge("registry_connected", "1 while the registry's Redis answers.", self._connected)

    def _state(self) -> Iterator[Metric]:
        now = self._now
        yield gauge("ready", "1 if /ready is 200.", now.serves)
        yield gauge("alive", "0 if /livez is 503: only a restart helps.", now.alive)
        yield gauge("loop_lag_seconds", "For how long ComfyUI's event loop has not run.", now.loop_lag)
        yield one_of("phase", "1 for the status of /ready, 0 for the others.", "phase", Status, [now.status])
        yield gauge(
            "status_since_timestamp_seconds", "Unix time at which this status was first seen.", now.since
        )
        yield one_of(
            "models", "Number of models by state.", "state", ModelState, [m.state for m in now.models]
        )
        host = now.host
        facts = [((host.comfyui, host.python, host.torch, host.device, host.plugin), 1)] if host else []
        labels = ("comfyui", "python", "torch", "device", "plugin")
        yield labelled("info", "Versions and device.", labels, facts)
        faults = [fault] if (fault := now.fault or now.unresponsive) else []
        rows = [*now.failing().values(), *now.degraded().values()]
        codes = Counter(p.code for p in (*now.problems, *faults, *(p for ps in rows for p in ps)))
        yield labelled(
            "errors",
            "Number of current problems, by code.",
            ("code",),
            [((c,), n) for c, n in codes.items()],
        )

    def _start(self) -> Iterator[Metric]:
        start, left, free = self._now.startup, self._now.left, self._now.free
        stage = [start.stage] if start.stage else []
        yield one_of("startup_stage", "1 for the current stage of the start.", "stage", StartStage, stage)
        spent = [((one.value,), seconds) for one, seconds in start.seconds.items()]
        yield labelled("startup_seconds", "Duration of each stage of the start.", ("stage",), spent)
        rest = [((), left)] if left is not None else []
        yield labelled("startup_left_seconds", "Estimated seconds until the start is over.", (), rest)
        known = [(("host",), free.host), (("device",), free.device)]
        found = [(name, size) for name, size in known if size is not None]
        yield labelled("free_bytes", "Memory that is free.", ("memory",), found)

    def _work(self) -> Iterator[Metric]:
        now, done = self._now, self._now.progress
        yield gauge("progress_ratio", "Progress of loading, 0 to 1, by the size of the files.", done.fraction)
        yield gauge("loaded_bytes", "Size of the files that were loaded or failed.", done.bytes)
        yield gauge("planned_bytes", "Size of all files to be loaded.", done.bytes_total)
        yield gauge("duration_seconds", "Duration of loading, so far or in total.", done.seconds)
        if ahead := now.prefetch:
            yield gauge("prefetch_bytes", "Bytes of the plan's files in the page cache.", ahead.bytes)
            yield gauge(
                "prefetch_planned_bytes",
                "Bytes of the plan's files to prefetch.",
                ahead.bytes_total,
            )
            yield gauge("prefetch_cached_bytes", "Bytes that were in the page cache already.", ahead.cached)
            yield gauge("prefetch_bytes_per_second", "Speed of the prefetch.", ahead.rate)
        yield gauge(
            "queue_remaining",
            "Number of running and queued prompts, without the plugin's own jobs.",
            now.queue_remaining,
        )
        jobs = [job.state for job in now.jobs]
        yield one_of(
            "jobs",
            "Number of jobs by state; of the finished ones, the last hundred.",
            "state",
            JobState,
            jobs,
        )
        misses = list(now.misses.items())[:MAX_SERIES]
        yield counter("misses", "Loader calls of planned nodes that had to run.", "loader", misses)

    def _per_model(self) -> Iterator[Metric]:
        models = self._models
        states = [((m.name, state.value), float(m.state is state)) for m in models for state in ModelState]
        yield labelled(
            "model_state",
            "1 for the state of the model, 0 for the others.",
            ("model", "state"),
            states,
        )
        yield labelled(
            "model_load_seconds",
            "Duration of the last loading, by stage.",
            ("model", "stage"),
            _stages(models),
        )
        there = [((m.name, device), held) for m in models for device, held in _by_device(m)]
        yield labelled(
            "model_resident_bytes", "Size of the weights on the device.", ("model", "device"), there
        )
        sizes = [((m.name,), m.bytes) for m in models]
        yield labelled(
            "model_bytes",
            "Size of the weights; before the model is loaded, the size of its files.",
            ("model",),
            sizes,
        )
        hits = [(m.name, m.hits) for m in models]
        yield counter("hits", "Loader calls that returned the preloaded model.", "model", hits)
        evictions = [(m.name, m.evictions) for m in models]
        yield counter(
            "evictions", "How often the model left its device, or memory, to make room.", "model", evictions
        )

    def _served(self) -> Iterator[Metric]:
        now = self._now
        found = {
            "model": [(m.name, m.served) for m in self._models],
            "workflow": [(w.name, w.served) for w in now.workflows[:MAX_SERIES]],
        }
        for what, rows in found.items():
            count = [((name,), one.prompts) for name, one in rows]
            help_ = f"Users' prompts that the {what} has served since it was {_SINCE[what]}."
            yield labelled(f"{what}_prompts", help_, (what,), count)
            seconds = [
                ((name, use), value)
                for name, one in rows
                for use, value in (("first", one.first), ("last", one.last), ("median", one.median))
                if value is not None
            ]
            help_ = "How long they ran: the first, the last, the median of those after the first."
            yield labelled(f"{what}_prompt_seconds", help_, (what, "use"), seconds)

    def _warmups(self) -> Iterator[Metric]:
        warmups = [warmup for warmup in self._now.warmups if warmup.requested]
        yield one_of(
            "warmups", "Number of warm-ups by state.", "state", WarmUpState, [w.state for w in warmups]
        )
        took = [((w.name,), w.seconds) for w in warmups[:MAX_SERIES] if w.seconds is not None]
        yield labelled("warmup_seconds", "Duration of the warm-up.", ("warmup",), took)
        ratios = [
            ((w.name, one.shape), one.ratio) for w in warmups for one in w.profiles if one.ratio is not None
        ]
        yield labelled(
            "warmup_ratio",
            "First ÷ steady after the warm-up, where `verify` measured it.",
            ("warmup", "shape"),
            ratios[:MAX_SERIES],
        )

    def _residency(self) -> Metric:
        """For gateways that route a request to its model; the counterpart of `vllm:lora_requests_info`."""
        help_ = (
            "Names of loaded models and of models to be loaded, separated by commas; the value is the "
            "time of the scrape."
        )
        labels = ("max_models", "resident_models", "loading_models")
        loaded = _names(m for m in self._models if m.state.loaded)
        coming = _names(m for m in self._models if m.state in _TO_COME)
        metric = GaugeMetricFamily("comfyui_model_requests_info", help_, labels=labels)
        metric.add_metric((str(len(self._now.models)), loaded, coming), time.time())
        return metric

    def _counted(self) -> Iterator[Metric]:
        now = self._now.counted
        commands = CounterMetricFamily(
            "comfyui_preload_commands",
            "Commands by what became of them.",
            labels=("command", "result"),
        )
        for values, count in now.commands.items():
            commands.add_metric(list(values), count)
        yield commands
        refused, lost = (
            "Prompts refused with 503 while draining.",
            "Prompts unfinished when the time of drain was over.",
        )
        yield CounterMetricFamily("comfyui_preload_prompts_refused", refused, value=now.prompts_refused)
        yield CounterMetricFamily("comfyui_preload_prompts_lost", lost, value=now.prompts_lost)
        for name, help_, found in (
            ("ready_seconds", "From the start of the process to ready.", now.ready),
            ("prompt_seconds", "How long prompts ran.", now.prompt),
            ("prompt_wait_seconds", "How long prompts waited in the queue.", now.wait),
        ):
            yield HistogramMetricFamily(
                f"comfyui_preload_{name}", help_, buckets=found.cumulative(), sum_value=found.sum
            )


def _by_device(model: Model) -> Iterable[tuple[str, int]]:
    """Of a model that is nowhere, or of which nothing is there, still one row."""
    return model.by_device.items() or ((model.device or "", 0),)


def _stages(models: Iterable[Model]) -> Iterator[tuple[tuple[str, str], float]]:
    for model in models:
        for stage, seconds in (
            ("read", model.read_seconds),
            ("load", model.load_seconds),
            ("warm", model.warm_seconds),
        ):
            if seconds is not None:
                yield (model.name, stage), seconds


def _names(models: Iterable[Model]) -> str:
    """Join the names up to MAX_LABEL_BYTES.

    A comma in a name is percent-encoded, so that the list can be split.
    """
    joined = ""
    for model in models:
        longer = f"{joined},{plain(model.name.replace('%', '%25').replace(',', '%2C'))}"
        if len(longer.encode()) > MAX_LABEL_BYTES:
            break
        joined = longer
    return joined[1:]
