"""What was loaded is handed out for the same call, and only for that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from comfy_preload.core.errors import Problem, problem
from comfy_preload.core.host import ModelFile
from comfy_preload.core.machine import memory
from comfy_preload.core.node_types import LoaderSpec
from comfy_preload.core.state.residency import Residency
from comfy_preload.core.state.slot import Slot, Stage
from tests.support.stand import MODEL, Stand


def test_miss_then_hit(stand: Stand) -> None:
    """The first call runs the node; the next one gets the very same outputs."""
    stand.load()

    assert MODEL is stand.recall()
    assert (Stage.LOADED, 1) == (stand.slot.stage, stand.slot.hits)
    assert stand.slot.loaded
    assert stand.slot.loaded.seconds >= 0


def test_preload_is_no_miss(stand: Stand) -> None:
    """The preload's own call counts neither as hit nor as miss."""
    stand.load()

    assert ({}, 0) == (dict(stand.residency.misses), stand.slot.hits)


def test_hit_repairs(stand: Stand) -> None:
    """Before a model is handed out, ComfyUI's list of loaded models is mended."""
    stand.load()
    stand.recall()

    assert [MODEL] == stand.repaired


def test_other_arguments(stand: Stand) -> None:
    """Another call of the same node is a miss of that node, and is not kept."""
    stand.load()
    stand.load(ckpt_name="other.safetensors")

    assert {"CheckpointLoaderSimple": 1} == dict(stand.residency.misses)
    assert stand.recall(ckpt_name="other.safetensors") is None


@pytest.mark.parametrize("sees_graph", [True, False])
def test_other_arguments_of_a_class_that_sees_the_graph(
    stand: Stand, path: Path, *, sees_graph: bool
) -> None:
    """Its pack keeps models itself: what it returned last for the same files is the one that is kept."""
    spec = replace(stand.target.spec, sees_graph=sees_graph)
    stand.residency.files = lambda _, given: (
        (ModelFile("sd15", "checkpoints", path),) if given["ckpt_name"] == "sd15.safetensors" else ()
    )
    inputs = dict(stand.target.inputs)
    stand.load()
    for given, outputs in (({**inputs, "text": "x"}, ("other",)), ({"ckpt_name": "none"}, ("no file",))):
        assert stand.residency.recall(spec, given, "") is None
        stand.residency.keep(spec, given, "", outputs)

    assert stand.slot.loaded
    assert (("other",) if sees_graph else MODEL) == stand.slot.loaded.outputs
    moved = stand.residency.recall(spec, {**inputs, "text": "x"}, "")
    assert moved == (("other",) if sees_graph else None)
    assert stand.residency.recall(spec, inputs, "") == (None if sees_graph else MODEL)

    stand.slot.release()
    stand.residency.keep(spec, {**inputs, "text": "y"}, "", ("later",))
    assert (Stage.LOADED if sees_graph else Stage.RELEASED) is stand.slot.stage


@pytest.mark.parametrize(("output", "warm"), [(object, 4.5), (lambda: "a text", None)], ids=["model", "text"])
def test_same_model_in_other_outputs(
    stand: Stand, path: Path, output: Callable[[], Any], warm: float | None
) -> None:
    """Another text gives other outputs; the model in them is as warm as before."""
    spec, inputs, model = replace(stand.target.spec, sees_graph=True), dict(stand.target.inputs), output()
    stand.residency.files = lambda *_: (ModelFile("sd15", "checkpoints", path),)
    stand.residency.values = tuple
    stand.load((model, "x"))
    stand.slot.warm_seconds = 4.5

    assert stand.residency.recall(spec, {**inputs, "text": "y"}, "") is None
    stand.residency.keep(spec, {**inputs, "text": "y"}, "", (model, "y"))

    assert stand.slot.loaded
    assert ((model, "y"), warm) == (stand.slot.loaded.outputs, stand.slot.warm_seconds)


def test_other_class(stand: Stand) -> None:
    """Another class that happens to take the same inputs is another call."""
    stand.load()
    spec = LoaderSpec("Mine", "mine.Loader", stand.target.spec.inputs)

    assert stand.residency.recall(spec, stand.target.inputs, "") is None


def test_same_class_by_another_name(stand: Stand) -> None:
    """A second name of the same class is the same call."""
    stand.load()

    assert MODEL is stand.residency.recall(replace(stand.target.spec, name="Alias"), stand.target.inputs, "")


@pytest.mark.parametrize(
    "value", [object(), {1, 2}, b"x", float("nan")], ids=["object", "set", "bytes", "nan"]
)
def test_no_plain_value(stand: Stand, value: object) -> None:
    """A call with arguments that are no plain values is none of ours."""
    stand.load()
    stand.load(model=value)

    assert stand.recall(model=value) is None
    assert MODEL is stand.recall()


@pytest.mark.parametrize("code", ["file_missing", "file_truncated", "load_failed"])
def test_failed_row_heals(stand: Stand, path: Path, code: str) -> None:
    """A prompt that loads it ends the failure; a file that came later is watched from then on."""
    wrong = Problem(code, "…", "", 2)
    call = replace(stand.slot.call, problems=(wrong,), target=replace(stand.target, files=()))
    residency = Residency(repair=lambda _: None, usable=lambda _: "", files=lambda *_: stand.target.files)
    slot = Slot.of(call)
    residency.reset([slot])
    assert Stage.FAILED is slot.stage

    assert residency.recall(stand.target.spec, stand.target.inputs, "") is None
    residency.keep(stand.target.spec, stand.target.inputs, "", MODEL)

    assert (Stage.LOADED, (), ()) == (slot.stage, slot.problems, slot.call.problems)
    assert MODEL is residency.recall(stand.target.spec, stand.target.inputs, "")
    path.write_bytes(b"other weights")
    assert residency.recall(stand.target.spec, stand.target.inputs, "") is None


def test_too_big_does_not_heal(stand: Stand) -> None:
    """What memory is too small for is left to ComfyUI, which lets go of it for the next workflow."""
    call = replace(stand.slot.call, problems=(Problem("too_big", "…", "", 2),))
    residency = Residency(repair=lambda _: None, usable=lambda _: "")
    slot = Slot.of(call)
    residency.reset([slot])

    residency.keep(stand.target.spec, stand.target.inputs, "", MODEL)

    assert (Stage.FAILED, None) == (slot.stage, slot.loaded)


def test_answer_to_is_changed(stand: Stand) -> None:
    """What the class answers to IS_CHANGED counts like a file that was replaced: the newest is kept."""
    stand.load(changes="1")
    assert MODEL is stand.recall("1")

    stand.load(("new",), changes="2")

    assert ("new",) == stand.recall("2")
    assert stand.recall("1") is None


def test_heap_is_trimmed_after_a_replacement(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once, when no prompt runs; not after the first model, nor after the same one once more."""
    trimmed: list[str] = []
    monkeypatch.setattr(memory, "trim", lambda: trimmed.append(""))
    stand.residency.values = tuple
    first, other = (object(),), (object(),)
    for outputs in (first, first):
        stand.residency.keep(stand.target.spec, stand.target.inputs, "", outputs)
        stand.residency.rest()
    assert not trimmed

    stand.residency.keep(stand.target.spec, stand.target.inputs, "", other)
    assert not trimmed
    stand.residency.rest()
    stand.residency.rest()
    assert 1 == len(trimmed)


def test_not_usable(stand: Stand) -> None:
    """Outputs that cannot be kept are not, and what was kept before stays."""
    stand.load("text")
    assert (None, Stage.LOADING) == (stand.slot.loaded, stand.slot.stage)
    stand.load()
    stand.residency.keep(stand.target.spec, stand.target.inputs, "", "text")

    assert MODEL is stand.recall()


def test_later_load_mends_a_failure(stand: Stand) -> None:
    """A model whose preload failed is kept once a prompt has loaded it, and is no longer failed."""
    stand.slot.fail(problem("out_of_memory", loader="CheckpointLoaderSimple"))
    stand.load()

    assert (Stage.LOADED, ()) == (stand.slot.stage, stand.slot.problems)
    assert MODEL is stand.recall()
    assert 1 == stand.residency.misses["CheckpointLoaderSimple"]


def test_loaded_anew_is_not_yet_on_the_device(stand: Stand) -> None:
    """Where the former model was says nothing about its replacement."""
    stand.load()
    stand.slot.was_resident = True
    stand.residency.keep(stand.target.spec, stand.target.inputs, "", ("new",))

    assert stand.slot.was_resident is False


def test_reset_forgets(stand: Stand) -> None:
    """A new plan starts empty."""
    stand.load()
    stand.residency.reset([])

    assert () == stand.residency.slots
    assert stand.residency.recall(stand.slot.call.target.spec, stand.slot.call.target.inputs, "") is None  # pyright: ignore[reportOptionalMemberAccess]
