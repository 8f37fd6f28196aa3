"""The numbers of probes and grace periods.

The formula of docs/kubernetes.md, in the chart and in the overlays.
"""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.deploy.manifests import KUSTOMIZE, Manifest, chart, container, deployment, overlay, pod, settled

PERIOD, PRE_STOP, TO_END = 5, 5, 10


def numbers_fit(rendered: list[Manifest], facts: dict[str, float], pre_stop: int = PRE_STOP) -> None:
    """The rules of docs/kubernetes.md, written down a second time."""
    one, options = container(rendered), settled(rendered).options
    startup = one["startupProbe"]
    load = facts["modelBytes"] / facts["storageSpeed"] + facts["warmupSeconds"]
    patience = (startup["failureThreshold"] - 1) * startup["periodSeconds"]

    assert options.timeout >= load
    assert patience >= facts["importSeconds"] + load
    assert patience >= facts["importSeconds"] + options.timeout, (
        "the plugin says why before the kubelet kills"
    )
    assert pre_stop == one["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod(rendered)["terminationGracePeriodSeconds"] >= pre_stop + options.drain + TO_END
    assert deployment(rendered)["spec"]["progressDeadlineSeconds"] > patience


def formula(facts: dict[str, float]) -> tuple[int, int]:
    """timeout, failureThreshold."""
    timeout = max(60, math.ceil(2 * (facts["modelBytes"] / facts["storageSpeed"] + facts["warmupSeconds"])))
    return timeout, math.ceil((timeout + math.ceil(2 * facts["importSeconds"])) / PERIOD) + 1


# Without shrinking: each example is a run of helm.
@settings(
    max_examples=30,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)
@given(
    facts=st.fixed_dictionaries(
        {
            "modelBytes": st.integers(0, 2 * 10**12),
            "storageSpeed": st.one_of(st.integers(10**8, 10**11), st.floats(1e8, 1e11)),
            "importSeconds": st.one_of(st.integers(1, 3600), st.floats(0.1, 3600)),
            "warmupSeconds": st.one_of(st.integers(0, 3600), st.floats(0, 3600)),
        }
    ),
    drain=st.one_of(st.integers(0, 86_400), st.floats(0, 86_400)),
    pre_stop=st.integers(1, 3600),
)
def test_numbers_of_the_chart(facts: dict[str, float], drain: float, pre_stop: int) -> None:
    """Whatever the values: the start has the time that loading needs, the end the time that prompts get."""
    rendered = chart({**facts, "preload": {"drain": drain}, "preStopSeconds": pre_stop})

    numbers_fit(rendered, facts, pre_stop)
    timeout, threshold = formula(facts)
    # Helm reckons in decimals: on the edge between two integers it may differ by one.
    assert abs(timeout - settled(rendered).options.timeout) <= 1
    assert abs(threshold - container(rendered)["startupProbe"]["failureThreshold"]) <= 1


@pytest.mark.parametrize("timeout", [78, 78.5, 1000])
def test_own_timeout(timeout: float) -> None:
    """A `timeout` in preload.yaml is used, in the file and in the formula."""
    rendered = chart({"preload": {"timeout": timeout}})

    assert timeout == settled(rendered).options.timeout
    numbers_fit(rendered, {"modelBytes": 24e9, "storageSpeed": 5e8, "importSeconds": 20, "warmupSeconds": 30})


@pytest.mark.parametrize("name", ["plain", "hpa", "keda"])
def test_numbers_of_the_overlays(name: str) -> None:
    """The numbers are those that the comment works out, and the comment follows the formula."""
    text = (KUSTOMIZE / "base" / "deployment.yaml").read_text(encoding="utf-8")
    facts = {
        key: float(value)
        for key, value in re.findall(r"(modelBytes|storageSpeed|importSeconds|warmupSeconds) (\d+)", text)
    }
    rendered, (timeout, threshold) = overlay(name), formula(facts)

    numbers_fit(rendered, facts)
    assert (timeout, threshold) == (
        settled(rendered).options.timeout,
        container(rendered)["startupProbe"]["failureThreshold"],
    )
    results = [int(n) for n in re.findall(r"= (\d+) ", text.partition("apiVersion")[0])]
    assert [78, timeout, timeout + 40, threshold, pod(rendered)["terminationGracePeriodSeconds"]] == results


def test_no_pre_stop() -> None:
    """With preStopSeconds 0 there is no hook, which older Kubernetes would refuse with 0 seconds."""
    rendered = chart({"preStopSeconds": 0})

    assert "lifecycle" not in container(rendered)
    assert 310 == pod(rendered)["terminationGracePeriodSeconds"]
