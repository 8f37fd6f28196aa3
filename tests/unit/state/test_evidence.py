"""Why a loader call missed, and what is kept of the prompts."""

from __future__ import annotations

from typing import Any

import pytest

from comfy_preload.core.host import Finished
from comfy_preload.core.planning.plan import build
from comfy_preload.core.settings.document import parse
from comfy_preload.core.settings.validation import validate
from comfy_preload.core.state.evidence import (
    MAX_PROMPTS,
    MAX_STEADY,
    NOT_SERVED,
    Evidence,
    LoaderUse,
    nearest_call,
)
from comfy_preload.core.state.residency import Residency
from comfy_preload.core.state.slot import Slot, Stage
from comfy_preload.core.workflow.likeness import likeness
from tests.support import prompts
from tests.support.catalogue import FOLDERS, Catalogue

PLAN = "models: [{unet: flux1-dev.safetensors, weight_dtype: fp8_e4m3fn}, {checkpoint: sd15.safetensors}]"


def planned() -> list[Any]:
    """Return the calls of PLAN."""
    return list(build(validate(parse(PLAN)).entries, Catalogue(FOLDERS)).calls)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        pytest.param(
            {"unet_name": "flux1-dev.safetensors", "weight_dtype": "default"},
            ("flux1-dev", "input", "weight_dtype is default, planned fp8_e4m3fn"),
            id="option",
        ),
        pytest.param(
            {"unet_name": "other.safetensors", "weight_dtype": "fp8_e4m3fn"},
            (None, "not_planned", "unet_name is other.safetensors, planned flux1-dev.safetensors"),
            id="file",
        ),
        pytest.param(
            {"unet_name": "flux1-dev.safetensors", "weight_dtype": object()},
            ("flux1-dev", "input", "weight_dtype is a object, planned fp8_e4m3fn"),
            id="not-a-plain-value",
        ),
        pytest.param(
            {"unet_name": "/srv/models/flux1-dev.safetensors", "weight_dtype": "fp8_e4m3fn"},
            (None, "not_planned", "unet_name is flux1-dev.safetensors, planned flux1-dev.safetensors"),
            id="no-path",
        ),
    ],
)
def test_nearest_call(arguments: dict[str, Any], expected: tuple[str | None, str, str]) -> None:
    """The planned call that differs least, and in what; no path is repeated."""
    calls = [call for call in planned() if call.target and call.target.spec.name == "UNETLoader"]

    assert expected == nearest_call("UNETLoader", arguments, calls)


def test_nearest_of_two() -> None:
    """An option that differs is nearer than a file that differs."""
    plan = (
        "models: [{unet: flux1-schnell.safetensors, weight_dtype: fp8_e4m3fn}, {unet: flux1-dev.safetensors}]"
    )
    calls = list(build(validate(parse(plan)).entries, Catalogue(FOLDERS)).calls)
    arguments = {"unet_name": "flux1-dev.safetensors", "weight_dtype": "fp8_e4m3fn"}

    assert ("flux1-dev", "input") == nearest_call("UNETLoader", arguments, calls)[:2]


def test_no_call() -> None:
    """Without a call of that class it is not planned."""
    assert (None, "not_planned", "no model of the plan is loaded by VAELoader") == nearest_call(
        "VAELoader", {}, []
    )


def test_last_prompts() -> None:
    """At most a hundred prompts are kept, newest last; a running one is completed in place."""
    evidence = Evidence()
    for number in range(MAX_PROMPTS + 5):
        evidence.note(str(number), LoaderUse("VAELoader", "ae", "hit"))
    evidence.finish(Finished("104", 2.0, None), [LoaderUse("UNETLoader", "flux", "cached")], {})

    assert [str(number) for number in range(5, 105)] == [one.id for one in evidence.prompts]
    assert ["hit", "cached"] == [use.result for use in evidence.prompts[-1].uses]
    assert (2.0, None) == (evidence.prompts[-1].ran, evidence.prompts[0].ran)


def test_served() -> None:
    """The first prompt is apart; the median is of those after it, of at most a hundred."""
    once = NOT_SERVED.add(9.0)
    assert (1, 9.0, 9.0, None) == (once.prompts, once.first, once.last, once.median)
    often = once
    for number in range(MAX_STEADY + 50):
        often = often.add(float(number))

    assert (151, 9.0, 149.0, 99.5) == (often.prompts, often.first, often.last, often.median)


def test_prompts_of_a_model() -> None:
    """A hit, an answer of ComfyUI's cache and a load count for the model.

    A call with another option does not.
    """
    call = planned()[0]
    slot = Slot.of(call)
    residency = Residency(repair=lambda _: None, usable=lambda _: "", prompt=lambda: "p")
    residency.reset([slot])
    spec, arguments = call.target.spec, dict(call.target.inputs)

    def load(**other: Any) -> None:
        if residency.recall(spec, {**arguments, **other}, "") is None:
            residency.keep(spec, {**arguments, **other}, "", ("model",))

    slot.stage = Stage.LOADING
    load()  # the preload's own call
    assert () == residency.evidence.prompts
    load()
    residency.finish(Finished("p", 5.0, None))
    residency.finish(Finished("q", 3.0, None), [(spec, arguments)])
    residency.finish(Finished("failed", 99.0, None, worked=False), [(spec, arguments)])
    residency.prompt = lambda: "r"
    load(weight_dtype="default")
    residency.finish(Finished("r", 7.0, None))

    assert (2, 5.0, 3.0) == (slot.served.prompts, slot.served.first, slot.served.last)
    assert "input: weight_dtype is default, planned fp8_e4m3fn" == slot.last_miss
    slot.release()
    residency.prompt = lambda: "s"
    load()
    assert ("miss", "not_loaded") == (
        residency.evidence.prompts[-1].uses[0].result,
        residency.evidence.prompts[-1].uses[0].reason,
    )
    assert NOT_SERVED == slot.served


def test_uploaded() -> None:
    """What the accelerator holds more at the end than when the loader was called, or than at rest.

    Not known: of a model that is not planned, and after `cached` if another prompt ran in between.
    """
    evidence = Evidence()
    evidence.rest({"flux": 30})
    evidence.note("p", LoaderUse("UNETLoader", "flux", "hit", held=40))
    evidence.note("p", LoaderUse("VAELoader", "ae", "miss", "file", "new", held=0))
    evidence.note("p", LoaderUse("VAELoader", None, "miss", "not_planned", "other", held=0))
    evidence.note("p", LoaderUse("VAELoader", "ae", "miss", "input", "other", held=0))
    cached = [LoaderUse("UNETLoader", "flux", "cached")]
    now = {"flux": 100, "ae": 7}
    done = evidence.finish(Finished("p", 1.0, None), cached, now)

    assert [60, 7, None, None, 70] == [use.uploaded for use in done.uses]
    beside = evidence.finish(Finished("q", 1.0, None), cached, now, alone=False)
    assert [None] == [use.uploaded for use in beside.uses]
    evicted = evidence.finish(Finished("r", 1.0, None), cached, {"flux": 0})
    assert [0] == [use.uploaded for use in evicted.uses]


def test_workflows() -> None:
    """A prompt counts for the workflow with the same nodes and links; a new plan keeps what is unchanged."""
    evidence = Evidence()
    mine = prompts.image()
    evidence.plan([("a.json", likeness(mine)), ("b.json", likeness(prompts.unrelated()))])
    evidence.note("p", LoaderUse("UNETLoader", None, "miss", "not_planned", "other"))
    for name, ran, worked in (("p", 5.0, True), ("q", 3.0, True), ("r", 99.0, False)):
        graph = prompts.image(text=name, seed=len(name))
        done = evidence.finish(Finished(name, ran, None, worked, graph=graph), [], {})
        assert "a.json" == done.workflow

    a, b = evidence.workflows
    assert (2, 5.0, 3.0) == (a.served.prompts, a.served.first, a.served.last)
    assert "UNETLoader: not_planned: other" == a.last_miss
    assert (0, None) == (b.served.prompts, b.last_miss)
    evidence.plan([("a.json", a.likeness), ("b.json", "changed")])
    assert [2, 0] == [one.served.prompts for one in evidence.workflows]


def test_likeness() -> None:
    """Texts, seeds, sizes and node ids do not matter; nodes and links do. Anything can be compared."""
    mine = prompts.image()
    renamed = {f"n{name}": node | {"inputs": _renamed(node["inputs"])} for name, node in mine.items()}

    assert likeness(mine) == likeness(prompts.image(text="a ship", seed=9, unet="other.safetensors"))
    assert likeness(mine) == likeness(renamed)
    others = [
        prompts.image(vae="taesd3"),
        {name: node for name, node in mine.items() if name != "save"},
        mine | {"positive": mine["positive"] | {"inputs": {"clip": ["clip", 1], "text": ""}}},
        {},
        {"1": None},
        {"1": {"class_type": "\ud800", "inputs": [1]}},
    ]
    assert len(others) + 1 == len({likeness(one) for one in (mine, *others)})


def _renamed(inputs: dict[str, Any]) -> dict[str, Any]:
    return {
        key: [f"n{value[0]}", value[1]] if isinstance(value, list) else value for key, value in inputs.items()
    }
