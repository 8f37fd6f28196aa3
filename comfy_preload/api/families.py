"""Families of metrics of the plugin: each has the prefix `comfyui_preload_`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from enum import Enum

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric


def gauge(name: str, help_: str, value: float) -> Metric:
    """Return a gauge without labels."""
    return GaugeMetricFamily(f"comfyui_preload_{name}", help_, value=float(value))


def labelled(
    name: str, help_: str, labels: tuple[str, ...], rows: Iterable[tuple[tuple[str, ...], float]]
) -> Metric:
    """Return a gauge with a sample for each row; of equal labels the last one counts."""
    metric = GaugeMetricFamily(f"comfyui_preload_{name}", help_, labels=labels)
    for values, value in {tuple(map(plain, values)): value for values, value in rows}.items():
        metric.add_metric(values, value)
    return metric


def counter(name: str, help_: str, label: str, rows: Iterable[tuple[str, int]]) -> Metric:
    """Return a counter with a sample for each row."""
    metric = CounterMetricFamily(f"comfyui_preload_{name}", help_, labels=(label,))
    for value, count in rows:
        metric.add_metric([plain(value)], count)
    return metric


def one_of(name: str, help_: str, label: str, kinds: type[Enum], found: Iterable[Enum]) -> Metric:
    """Return the count of each kind; a kind without any is 0, not missing."""
    counts: Mapping[Enum, int] = Counter(found)
    return labelled(name, help_, (label,), [((str(kind.value),), counts[kind]) for kind in kinds])


def plain(value: str) -> str:
    """Replace lone surrogates, which YAML can contain and UTF-8 cannot."""
    return value.encode("utf-8", "replace").decode()
