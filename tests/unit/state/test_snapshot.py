"""The verdict: a table of everything that it depends on."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from comfy_preload.core.errors import problem
from comfy_preload.core.planning.rows import WarmUp, WarmUpState
from comfy_preload.core.state.snapshot import ModelState, Overrides, Phase, Status, judge
from tests.support.snapshots import model

BROKEN = problem("file_empty", file="x")

NONE, GOOD, BAD, OPTIONAL = "none", "loaded", "required-failed", "optional-failed"
_MODELS = {
    NONE: (),
    GOOD: (model(),),
    BAD: (model(), model("b", ModelState.FAILED)),
    OPTIONAL: (model(), model("b", ModelState.FAILED, required=False)),
}
_SETTLED = {
    (NONE, False, False): Status.READY,
    (NONE, False, True): Status.READY,
    (NONE, True, False): Status.FAILED,
    (NONE, True, True): Status.DEGRADED,
    (GOOD, False, False): Status.READY,
    (GOOD, False, True): Status.READY,
    (GOOD, True, False): Status.FAILED,
    (GOOD, True, True): Status.DEGRADED,
    (BAD, False, False): Status.FAILED,
    (BAD, False, True): Status.DEGRADED,
    (BAD, True, False): Status.FAILED,
    (BAD, True, True): Status.DEGRADED,
    (OPTIONAL, False, False): Status.DEGRADED,
    (OPTIONAL, False, True): Status.DEGRADED,
    (OPTIONAL, True, False): Status.FAILED,
    (OPTIONAL, True, True): Status.DEGRADED,
}
"""(models, is the file wrong, on_error: serve) -> the verdict once all is done."""


def _expected(phase: Phase, key: tuple[str, bool, bool], *, late: bool) -> Status:
    models, wrong, serve = key
    fatal = wrong or models == BAD
    if phase is Phase.SLEEPING:
        return Status.FAILED if fatal and not serve else Status.SLEEPING
    return _SETTLED[key] if phase is Phase.SETTLED or (late and fatal) else Status(phase.value)


def _cases() -> list[Any]:
    cases: list[Any] = []
    for phase, late, key in itertools.product(Phase, (False, True), _SETTLED):
        models, wrong, serve = key
        words = [phase.value, models, *(["file-wrong"] * wrong), *(["serve"] * serve), *(["late"] * late)]
        cases.append(pytest.param(phase, key, late, _expected(phase, key, late=late), id="-".join(words)))
    return cases


@pytest.mark.parametrize(("phase", "key", "late", "status"), _cases())
def test_verdict(phase: Phase, key: tuple[str, bool, bool], late: bool, status: Status) -> None:  # noqa: FBT001 — a column
    """Before the end it is the phase, unless time is over and something required is missing.

    Then it is what failed.
    """
    models, wrong, serve = key
    problems = (BROKEN,) if wrong else ()
    found, serves = judge(phase, _MODELS[models], (), problems, Overrides(late=late, serve=serve))

    assert status is found
    assert serves is (status in (Status.READY, Status.DEGRADED))


@pytest.mark.parametrize("state", [s for s in ModelState if s.loaded], ids=str)
def test_only_what_is_missing_matters(state: ModelState) -> None:
    """Where a model is does not change the verdict: an evicted one needs no file either."""
    assert (Status.READY, True) == judge(Phase.SETTLED, (model(state=state),), (), ())


@pytest.mark.parametrize("state", [ModelState.PENDING, ModelState.READING, ModelState.LOADING], ids=str)
def test_being_loaded_again(state: ModelState) -> None:
    """A reload that releases the old model first leaves it missing until the new one is loaded."""
    assert (Status.DEGRADED, False) == judge(Phase.SETTLED, (model(state=state),), (), ())


@pytest.mark.parametrize(
    ("required", "serve", "serves"),
    [(True, False, False), (True, True, True), (False, False, True), (False, True, True)],
)
def test_released(required: bool, serve: bool, serves: bool) -> None:  # noqa: FBT001 — columns of the table
    """A released model is missed: without a required one no traffic, unless failures do not matter."""
    models = (model(), model("b", ModelState.RELEASED, required=required))

    assert (Status.DEGRADED, serves) == judge(Phase.SETTLED, models, (), (), Overrides(serve=serve))


@pytest.mark.parametrize("state", WarmUpState, ids=str)
@pytest.mark.parametrize("required", [True, False])
def test_warm_up(state: WarmUpState, required: bool) -> None:  # noqa: FBT001 — a column of the table
    """A warm-up that failed counts as a model that failed; after a degraded one there is traffic.

    While one runs the phase says so.
    """
    failed = state is WarmUpState.FAILED
    warmups = (WarmUp("w", required, state),)

    slow = state is WarmUpState.DEGRADED
    served = (Status.DEGRADED if slow else Status.READY, True)
    expected = (Status.FAILED if required else Status.DEGRADED, not required) if failed else served
    assert expected == judge(Phase.SETTLED, (model(),), warmups, ())
    assert (Status.WARMING, False) == judge(Phase.WARMING, (model(),), warmups, ())


@pytest.mark.parametrize("phase", Phase, ids=str)
@pytest.mark.parametrize("serve", [True, False])
def test_fault_and_drain_come_first(phase: Phase, serve: bool) -> None:  # noqa: FBT001 — a column of the table
    """Whatever else is true, and whatever `on_error` says."""
    assert (Status.DRAINING, False) == judge(
        phase, (model(),), (), (), Overrides(serve=serve, draining=True, faulty=True)
    )
    assert (Status.FAILED, False) == judge(phase, (model(),), (), (), Overrides(serve=serve, faulty=True))
