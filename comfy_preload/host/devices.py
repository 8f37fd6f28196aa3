"""Where models are, and moving them there. Source: comfy/model_management.py, model_patcher.py.

Tried on the CPU only; what concerns VRAM was written from the source.
"""

from __future__ import annotations

import gc
from collections.abc import Collection, Iterable
from typing import Any

import comfy.model_management as mm
import torch
from comfy_api.internal import _NodeOutputInternal

from comfy_preload.core.host import Outputs, Placement


def values(outputs: Outputs) -> tuple[Any, ...]:
    """What a loader's outputs hold: a V1 tuple, the `result` of a V1 dict, or the arguments of a V3 NodeOutput."""
    if isinstance(outputs, _NodeOutputInternal):
        return tuple(getattr(outputs, "args", ()))
    return tuple(outputs["result"] if isinstance(outputs, dict) else outputs)


def patchers(outputs: Outputs) -> list[Any]:
    """The ModelPatchers behind MODEL, CLIP, VAE, CLIP_VISION, CONTROL_NET, … each once.

    Other outputs (style models, upscalers) have none: ComfyUI moves them itself on use. A
    checkpoint without VAE yields a VAE object without a patcher.
    """
    found: dict[int, Any] = {}
    for value in values(outputs):
        if hasattr(value, "model_size") and hasattr(value, "load_device"):
            candidates = [value]
        elif hasattr(value, "get_models"):
            candidates = list(value.get_models())
        else:
            candidates = [getattr(value, "patcher", None)]
        found |= {id(p): p for p in candidates if hasattr(p, "loaded_size")}
    return list(found.values())


def push(outputs: Collection[Outputs]) -> None:
    """Load all patchers onto their devices in one call, so that none evicts another.

    With dynamic VRAM (`is_dynamic()`, 0.12 and later on NVIDIA) this only stages the weights.
    """
    every = {id(p): p for one in outputs for p in patchers(one)}
    if every:
        mm.load_models_gpu(list(every.values()))


def placement(outputs: Outputs) -> Placement:
    """Read from ComfyUI's own counters: cheap, from any thread."""
    found = patchers(outputs)
    total = sum(int(p.model_size()) for p in found)
    on_device = sum(min(int(p.loaded_size()), int(p.model_size())) for p in found)
    devices = sorted({str(p.load_device) for p in found}) or ["cpu"]
    dynamic = any(getattr(p, "is_dynamic", bool)() for p in found)
    return Placement(total, on_device, "+".join(devices), dynamic)


def dtypes(outputs: Outputs) -> tuple[str, ...]:
    """`ModelPatcher.model_dtype()` (model_patcher.py), else the first weight's."""
    found = dict.fromkeys(str(_dtype(patcher)).removeprefix("torch.") for patcher in patchers(outputs))
    return tuple(name for name in found if name != "None")


def _dtype(patcher: Any) -> Any:
    model = patcher.model
    known = patcher.model_dtype() if hasattr(patcher, "model_dtype") else None
    return known or getattr(next(iter(model.parameters()), None), "dtype", None)


def repair(outputs: Outputs) -> None:
    """Point dead entries of ComfyUI's list of loaded models back at the patcher that we hold.

    Clones that form a reference cycle are collected together with their parent link; the entry is
    then `is_dead()` for as long as we keep the real model alive, and ComfyUI runs a full garbage
    collection before every load (`cleanup_models_gc`, model_management.py).
    """
    dead = [e for e in mm.current_loaded_models if e.model is None and e.real_model is not None]
    if dead:
        _revive(dead, patchers(outputs))


def _revive(dead: Iterable[Any], held: Iterable[Any]) -> None:
    by_model = {id(p.model): p for p in held if hasattr(p, "model")}
    for entry in dead:
        patcher = by_model.get(id(entry.real_model()))
        if patcher is not None:
            entry._set_model(patcher)  # noqa: SLF001 — the only way to mend an entry


def relieve() -> None:
    """What ComfyUI does after an out-of-memory error in a prompt (execution.py)."""
    mm.unload_all_models()
    mm.soft_empty_cache()


def collect() -> None:
    """What ComfyUI does after prompts (`prompt_worker`, main.py): models are full of reference cycles."""
    gc.collect()
    mm.cleanup_models()
    mm.soft_empty_cache()


def free_device_memory() -> int:
    device = mm.get_torch_device()
    return 0 if mm.is_device_cpu(device) else int(mm.get_free_memory(device))


def device_name() -> str:
    return str(mm.get_torch_device_name(mm.get_torch_device()))


def is_out_of_memory(error: BaseException) -> bool:
    """`is_oom` exists since 0.16.4; before, the exception class tells."""
    if isinstance(error, MemoryError | torch.cuda.OutOfMemoryError):
        return True
    is_oom = getattr(mm, "is_oom", None)
    return bool(is_oom(error)) if is_oom else isinstance(error, torch.OutOfMemoryError)


def is_interrupt(error: BaseException) -> bool:
    return isinstance(error, mm.InterruptProcessingException)
