"""Moving models to their devices before anyone asks for them.

Source: `load_models_gpu`, comfy/model_management.py.

One call for each patcher, since that function has no `try` in its loop: one that raises would cost all behind
it, and entries that it had taken out of ComfyUI's list would be lost to it. Tried with 0.3.75 and 0.33.0.
"""

from __future__ import annotations

import gc
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import comfy.model_management as mm

from comfy_preload.core.host import Outputs, all_there
from comfy_preload.host import devices

MARGIN = 1.1
"""`load_models_gpu` makes room for a model's size times this, and for `minimum_inference_memory`."""


def push(pushed: Sequence[Outputs], beside: Collection[Outputs] = ()) -> list[tuple[BaseException, ...]]:
    """Load each patcher onto its device, in this order, as long as none before it has to make room.

    With dynamic VRAM a push only prepares the weights, and the model prepared last is the last to be given
    up: those go last to first.
    """
    if devices.unloads_after_prompts():
        return [()] * len(pushed)
    moved = {id(outputs) for outputs in pushed}
    first = [p for outputs in beside if id(outputs) not in moved for p in devices.patchers(outputs)]
    raised: list[list[BaseException]] = [[] for _ in pushed]
    for number, patcher in _in_order(pushed):
        if error := _try(patcher, first):
            raised[number].append(error)
        first.append(patcher)
    return [tuple(errors) for errors in raised]


def _try(patcher: Any, first: Collection[Any]) -> BaseException | None:
    try:
        _push(patcher, first)
    except BaseException as error:  # noqa: BLE001 — SystemExit too would end ComfyUI's prompt worker
        return error
    return None


def _in_order(pushed: Sequence[Outputs]) -> Iterator[tuple[int, Any]]:
    each = [(number, patcher) for number, one in enumerate(pushed) for patcher in devices.patchers(one)]
    yield from (one for one in each if not devices.is_dynamic(one[1]))
    yield from (one for one in reversed(each) if devices.is_dynamic(one[1]))


def _push(patcher: Any, first: Collection[Any]) -> None:
    if devices.is_dynamic(patcher):
        mm.load_models_gpu([patcher])
        return
    if devices.belongs_in_ram(patcher) or all_there(devices.held(patcher), patcher.model_size()):
        return
    weight = devices.first_weight(patcher)
    if weight is not None and weight.is_meta:
        return  # built without weights: its node fills them in when it is used
    if not (_has_room(patcher, first) or _is_alone(patcher, first)):
        return
    try:
        mm.load_models_gpu([patcher])
    except BaseException as error:
        if not devices.is_out_of_memory(error):
            raise
        gc.collect()
        mm.free_memory(_needed(patcher), patcher.load_device, keep_loaded=_entries(first))
        mm.soft_empty_cache()
        mm.load_models_gpu([patcher])


def _has_room(patcher: Any, first: Collection[Any]) -> bool:
    """Is there room for all of it? Models that are not among `first` make room, as they would in a prompt."""
    device = patcher.load_device
    if mm.is_device_cpu(device):
        return True
    needed, free = _needed(patcher), mm.get_free_memory(device)
    if free < needed:
        kept = _entries(first)
        others = [
            e
            for e in mm.current_loaded_models
            if e.model is not None and e.device == device and e not in kept
        ]
        if free + sum(e.model.loaded_size() for e in others) < needed:
            return False  # it would not fit even then
        mm.free_memory(needed, device, keep_loaded=kept)
    return bool(mm.get_free_memory(device) >= needed)


def _needed(patcher: Any) -> float:
    missing = patcher.model_size() - devices.held(patcher)
    return float(missing * MARGIN + mm.minimum_inference_memory())


def _is_alone(patcher: Any, first: Collection[Any]) -> bool:
    """None of `first` is on its device: what does not fit whole goes there in part."""
    return not any(
        devices.held(other)
        for other in first
        if other.load_device == patcher.load_device and other.model is not patcher.model
    )


def _entries(first: Collection[Any]) -> list[Any]:
    models = {id(patcher.model) for patcher in first}
    return [e for e in mm.current_loaded_models if e.model is not None and id(e.model.model) in models]
