"""Why a loader call missed, and what is kept of the prompts."""

from __future__ import annotations

from typing import Any

import pytest

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
from comfy_preload.core.state.residency import Residency, Slot, Stage
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
    evidence.finish("104", [LoaderUse("UNETLoader", "flux", "cached")], 2.0, None)

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
    residency.finish("p", [], 5.0, None)
    residency.finish("q", [(spec, arguments)], 3.0, None)
    residency.finish("failed", [(spec, arguments)], 99.0, None, worked=False)
    residency.prompt = lambda: "r"
    load(weight_dtype="default")
    residency.finish("r", [], 7.0, None)

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
