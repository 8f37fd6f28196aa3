"""The metrics are what the snapshot says, in a text that Prometheus takes without a complaint."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as strict_families
from prometheus_client.parser import text_string_to_metric_families

from comfy_preload.api import metrics
from comfy_preload.api import queries as answers
from comfy_preload.core.planning.rows import WarmUpState
from comfy_preload.core.state.jobs import JobState
from comfy_preload.core.state.snapshot import ModelState, Snapshot, Status
from comfy_preload.core.state.startup import StartStage
from tests.support.prometheus import promtool
from tests.support.snapshots import AHEAD, FAULT, full, job, model, snapshot, warm_up
from tools.host import ROOT

CONTRACT = {
    *(
        "comfyui_preload_ready",
        "comfyui_preload_phase",
        "comfyui_preload_model_state",
        "comfyui_preload_model_load_seconds",
    ),
    *("comfyui_preload_model_resident_bytes", "comfyui_preload_hits_total", "comfyui_preload_misses_total"),
    *("comfyui_preload_evictions_total", "comfyui_preload_queue_remaining", "comfyui_preload_info"),
    "comfyui_model_requests_info",
}

Labels = tuple[tuple[str, str], ...]


def scrape(now: Snapshot) -> dict[tuple[str, Labels], float]:
    """Every sample by its name and its labels."""
    found: dict[tuple[str, Labels], float] = {}
    for family in text_string_to_metric_families(metrics.render(now).text.decode()):
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in found, "a series stands twice"
            found[key] = sample.value
    return found


def one(now: Snapshot, name: str, **labels: str) -> float:
    return scrape(now)[f"comfyui_preload_{name}", tuple(sorted(labels.items()))]


def test_contract() -> None:
    """Every name that is promised is there."""
    assert {name for name, _ in scrape(full())} >= CONTRACT


def test_nothing_to_say() -> None:
    """With no models, no host and nothing done, there is no sample without a sense."""
    names = {name for name, _ in scrape(snapshot(Status.READY, host=None, misses={}))}

    assert names.isdisjoint(
        {"comfyui_preload_info", "comfyui_preload_model_state", "comfyui_preload_hits_total"}
    )
    assert {"comfyui_preload_ready", "comfyui_preload_queue_remaining"} <= names


@pytest.mark.parametrize("status", Status, ids=lambda s: s.value)
def test_phase(status: Status) -> None:
    """Exactly the status of /ready is 1, and `ready` is whether traffic is let in."""
    now = snapshot(status)

    assert {other.value: float(other is status) for other in Status} == {
        dict(labels)["phase"]: value
        for (name, labels), value in scrape(now).items()
        if name == "comfyui_preload_phase"
    }
    assert float(now.serves) == one(now, "ready")


@pytest.mark.parametrize("state", ModelState, ids=lambda s: s.value)
def test_model_state(state: ModelState) -> None:
    """Exactly the state of the model is 1."""
    assert {other.value: float(other is state) for other in ModelState} == {
        dict(labels)["state"]: value
        for (name, labels), value in scrape(snapshot(Status.LOADING, model("m", state))).items()
        if name == "comfyui_preload_model_state"
    }


def test_model() -> None:
    """Of each model: seconds by stage, bytes, hits, evictions."""
    now = snapshot(Status.READY, model("m", read_seconds=0.5, warm_seconds=None))

    assert (0.5, 1.23456) == tuple(
        one(now, "model_load_seconds", model="m", stage=stage) for stage in ("read", "load")
    )
    assert ("comfyui_preload_model_load_seconds", (("model", "m"), ("stage", "warm"))) not in scrape(now)
    assert 1000 == one(now, "model_resident_bytes", model="m", device="cuda:0")
    assert (2, 1) == (one(now, "hits_total", model="m"), one(now, "evictions_total", model="m"))


def test_start() -> None:
    """The current stage and the seconds of each; what is not known has no sample."""
    now = full()

    assert {stage.value: float(stage is StartStage.LOADING) for stage in StartStage} == {
        stage.value: one(now, "startup_stage", stage=stage.value) for stage in StartStage
    }
    assert 1.23456 == one(now, "startup_seconds", stage="importing")
    assert (8.9, 5e10) == (one(now, "startup_left_seconds"), one(now, "free_bytes", memory="host"))
    names = {name for name, _ in scrape(snapshot(Status.STARTING))}
    assert names.isdisjoint({"comfyui_preload_startup_left_seconds", "comfyui_preload_free_bytes"})


def test_served() -> None:
    """What models and workflows have served; no seconds of what has served nothing."""
    now = full()

    assert 2 == one(now, "workflow_prompts", workflow="w.json")
    assert (2.5, 1.5, 1.5) == tuple(
        one(now, "workflow_prompt_seconds", workflow="w.json", use=use) for use in ("first", "last", "median")
    )
    assert (0, 2) == (one(now, "model_prompts", model="m"), one(now, "model_prompts", model="n"))
    seconds = [labels for name, labels in scrape(now) if name == "comfyui_preload_model_prompt_seconds"]
    assert [{"model": "n", "use": use} for use in ("first", "last", "median")] == list(map(dict, seconds))


def test_work() -> None:
    """Progress, reading ahead, the queue, jobs, misses and what is wrong."""
    now = snapshot(
        Status.FAILED,
        model("m", ModelState.FAILED),
        prefetch=AHEAD,
        fault=FAULT,
        queue_remaining=3,
        jobs=(job("1"), job("2", state=JobState.DONE), job("3", state=JobState.DONE)),
    )

    assert (0, 1, 3) == (one(now, "alive"), one(now, "progress_ratio"), one(now, "queue_remaining"))
    assert (70, 100, 30) == tuple(
        one(now, f"prefetch_{name}") for name in ("bytes", "planned_bytes", "bytes_per_second")
    )
    assert [1, 0, 2, 0] == [one(now, "jobs", state=state.value) for state in JobState]
    assert 3 == one(now, "misses_total", loader="VAELoader")
    assert (1, 1) == (one(now, "errors", code="file_empty"), one(now, "errors", code="device_fault"))


def test_residency() -> None:
    """What a router reads: which models are there and which are coming; the value is the time."""
    began = time.time()
    rows = [model(f"m,{state.value}", state) for state in ModelState]
    ((labels, value),) = [
        (dict(labels), value)
        for (name, labels), value in scrape(snapshot(Status.LOADING, *rows)).items()
        if name == "comfyui_model_requests_info"
    ]

    assert "m%2Cpending,m%2Creading,m%2Cloading" == labels["loading_models"]
    assert ["m%2Cstaged", "m%2Cresident", "m%2Cwarm", "m%2Cevicted"] == labels["resident_models"].split(",")
    assert str(len(ModelState)) == labels["max_models"]
    assert int(began) <= value <= time.time()


def test_workflow_without_a_warm_up() -> None:
    """One that cannot be read is not a warm-up that failed."""
    rows = [warm_up(name, WarmUpState.FAILED, requested=name == "asked") for name in ("asked", "other")]
    found = scrape(snapshot(Status.FAILED, warmups=tuple(rows)))

    assert 1 == found["comfyui_preload_warmups", (("state", "failed"),)]


def test_bounded() -> None:
    """A thousand models make no ten thousand series; they are counted all the same."""
    now = snapshot(
        Status.READY, *(model(f"m{i}") for i in range(1000)), misses={f"L{i}": 1 for i in range(1000)}
    )

    assert len(scrape(now)) < metrics.MAX_SERIES * 16 + 100
    assert 1000 == one(now, "models", state="resident")


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a\nb", "模型", "\ud800", "a,b{c}=d", "%"])
def test_odd_names(name: str) -> None:
    """Any name is a label."""
    expected = name.encode("utf-8", "replace").decode()

    assert 2 == one(snapshot(Status.READY, model(name)), "hits_total", model=expected)


def test_own_registry() -> None:
    """Nothing of the process, of Python or of another plugin is reported."""
    assert {"comfyui"} == {name.partition("_")[0] for name, _ in scrape(full())}


@pytest.mark.parametrize("now", [full(), snapshot(Status.READY, model())], ids=["full", "ready"])
def test_promtool(now: Snapshot) -> None:
    """Prometheus's own checker has nothing to say about names, types, units and help."""
    assert (0, "") == promtool("check", "metrics", stdin=metrics.render(now).text)


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", "text/plain; version=0.0.4"),
        ("*/*", "text/plain; version=0.0.4"),
        ("text/plain;version=0.0.4;q=0.5,*/*;q=0.1", "text/plain; version=0.0.4"),
        (
            "application/openmetrics-text;version=1.0.0,*/*;q=0.1",
            "application/openmetrics-text; version=1.0.0",
        ),
    ],
)
def test_format(accept: str, kind: str) -> None:
    """What the request asks for. OpenMetrics' own parser, which is strict, reads the same samples."""
    given = answers.answer("/preload/metrics", "", full(), None, answers.Headers(accept=accept))
    parse = strict_families if "openmetrics" in kind else text_string_to_metric_families
    found = {(s.name, tuple(sorted(s.labels.items()))) for f in parse(given.body.decode()) for s in f.samples}

    assert f"{kind}; charset=utf-8" == given.headers["Content-Type"]
    assert scrape(full()).keys() == found


CHILD = """
import json, sys, types
sys.modules["prometheus_client"] = None
sys.path.insert(0, sys.argv[1])
from comfy_preload.api.queries import answer
from comfy_preload.core.state.residency import Residency
from comfy_preload.core.state.readiness import Readiness
now = Readiness(Residency(repair=lambda _: None, usable=lambda _: ""), lambda _: None).snapshot()
given = answer("/preload/metrics", "", now)
print(given.status, given.body.decode())
"""


def test_not_installed() -> None:
    """Without prometheus_client the answer is 501 and names the command to run; nothing else is affected."""
    command = [sys.executable, "-I", "-c", CHILD, str(ROOT)]
    said = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    status, _, body = said.partition(" ")

    assert ("501", "metrics_unavailable") == (status, json.loads(body)["error"]["code"])
    assert "pip install prometheus_client" in json.loads(body)["error"]["hint"]


def test_fault_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any other missing module is a fault, not a hint."""
    monkeypatch.setitem(sys.modules, "comfy_preload.api.metrics", None)
    monkeypatch.delattr("comfy_preload.api.metrics")

    with pytest.raises(ModuleNotFoundError):
        answers.answer("/preload/metrics", "", snapshot())
