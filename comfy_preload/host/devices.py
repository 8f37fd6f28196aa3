"""Where models are, and taking them off their device. Source: comfy/model_management.py, model_patcher.py.

Tried on the CPU and on a simulated accelerator (docs/device.md), with 0.3.75 and 0.33.0.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterable
from typing import Any

import comfy.model_management as mm
import torch
from comfy_api.internal import _NodeOutputInternal

from comfy_preload.core.host import Outputs, Placement
from comfy_preload.core.machine import memory


def reseed() -> None:
    """Seed torch's generators again, those of the devices too: a restored process has those of its copies."""
    torch.seed()


def values(outputs: Outputs) -> tuple[Any, ...]:
    """What a loader's outputs hold.

    A V1 tuple, the `result` of a V1 dict, or the arguments of a V3 NodeOutput.
    """
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


def placement(outputs: Outputs) -> Placement:
    """Read from ComfyUI's counters and from where the first weight is.

    Cheap, from any thread, asks no device.
    """
    total, by_device, dynamic = 0, Counter[str](), False
    for patcher in patchers(outputs):
        total += int(patcher.model_size())
        by_device[str(patcher.load_device)] += held(patcher)
        dynamic |= is_dynamic(patcher)
    return Placement(total, by_device or {"cpu": 0}, dynamic, stays=not unloads_after_prompts())


def unloads_after_prompts() -> bool:
    """`unload_all_models` ends every prompt, our jobs included (`--disable-smart-memory`; execution.py)."""
    return bool(mm.DISABLE_SMART_MEMORY)


def held(patcher: Any) -> int:
    """Bytes of its weights that are on the device it belongs on.

    `loaded_size()` counts what ComfyUI brought there. It says 0 of weights that never leave: where the
    offload device is the accelerator (`--gpu-only`, UNets under `--highvram`), or where ComfyUI built them on
    it (`unet_inital_load_device`). Weights on `meta` are nowhere.
    """
    size, loaded = int(patcher.model_size()), int(patcher.loaded_size())
    if belongs_in_ram(patcher):
        return size
    if is_dynamic(patcher):
        return loaded
    weight = first_weight(patcher)
    built_there = weight is not None and weight.device.type not in ("cpu", "meta")
    return size if not loaded and built_there else min(loaded, size)


def is_dynamic(patcher: Any) -> bool:
    return bool(getattr(patcher, "is_dynamic", bool)())


def belongs_in_ram(patcher: Any) -> bool:
    """It belongs in main memory though there is an accelerator.

    `device: cpu` of CLIPLoader, `--lowvram`, `--cpu-vae`.
    """
    return mm.is_device_cpu(patcher.load_device) and mm.cpu_state is not mm.CPUState.CPU


def first_weight(patcher: Any) -> Any:
    parameters = getattr(patcher.model, "parameters", None)
    return next(iter(parameters()), None) if parameters else None


def dtypes(outputs: Outputs) -> tuple[str, ...]:
    """`ModelPatcher.model_dtype()` (model_patcher.py), else the first weight's."""
    found = dict.fromkeys(str(_dtype(patcher)).removeprefix("torch.") for patcher in patchers(outputs))
    return tuple(name for name in found if name != "None")


def _dtype(patcher: Any) -> Any:
    known = patcher.model_dtype() if hasattr(patcher, "model_dtype") else None
    return known or getattr(first_weight(patcher), "dtype", None)


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
    """What ComfyUI does after prompts (`prompt_worker`, main.py): models are full of reference cycles.

    Then the C library's heap is trimmed: weights that come and go leave holes in it that no other process can
    use.
    """
    gc.collect()
    mm.cleanup_models()
    mm.soft_empty_cache()
    memory.trim()


def free_device_memory() -> int:
    """Of the compute device; 0 where that is main memory, or shares it (MPS: `VRAMState.SHARED`)."""
    device = mm.get_torch_device()
    shared = mm.is_device_cpu(device) or mm.vram_state is mm.VRAMState.SHARED
    return 0 if shared else int(mm.get_free_memory(device))


def maps_files() -> bool:
    """Dynamic VRAM.

    Files are mapped, and read as weights go to the device (comfy/memory_management.py, since 0.12).
    """
    try:
        import comfy.memory_management
    except ImportError:
        return False
    return bool(getattr(comfy.memory_management, "aimdo_enabled", False))


def was_cancelled() -> bool:
    """The flag that "Cancel" sets; the next prompt takes it back (execution.py)."""
    return bool(mm.processing_interrupted())


def device_name() -> str:
    return str(mm.get_torch_device_name(mm.get_torch_device()))


def is_out_of_memory(error: BaseException) -> bool:
    """`is_oom` exists since 0.16.4; before, the exception class says it."""
    if isinstance(error, MemoryError | torch.cuda.OutOfMemoryError):
        return True
    is_oom = getattr(mm, "is_oom", None)
    return bool(is_oom(error)) if is_oom else isinstance(error, torch.OutOfMemoryError)


def is_interrupt(error: BaseException) -> bool:
    return isinstance(error, mm.InterruptProcessingException)
