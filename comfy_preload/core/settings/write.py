"""Write a loader call as an entry of `models:` in preload.yaml."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from comfy_preload.core.host import Value
from comfy_preload.core.settings.document import parse
from comfy_preload.core.settings.validation import validate

ENTRY_KEYS = ("name", "required", "device", "checkpoint", "unet", "clip", "vae", "loader", "inputs")
_SHORT = {
    "CheckpointLoaderSimple": ("checkpoint", ("ckpt_name",)),
    "UNETLoader": ("unet", ("unet_name",)),
    "CLIPLoader": ("clip", ("clip_name",)),
    "DualCLIPLoader": ("clip", ("clip_name1", "clip_name2")),
    "TripleCLIPLoader": ("clip", ("clip_name1", "clip_name2", "clip_name3")),
    "QuadrupleCLIPLoader": ("clip", ("clip_name1", "clip_name2", "clip_name3", "clip_name4")),
    "VAELoader": ("vae", ("vae_name",)),
}
_AS_LEFT_OUT: dict[tuple[str, str], Value] = {
    ("UNETLoader", "weight_dtype"): "default",
    ("CLIPLoader", "device"): "default",
    ("DualCLIPLoader", "device"): "default",
}
"""Inputs that can be left out without a difference, in every version of ComfyUI."""


@dataclass(frozen=True)
class WrittenCall:
    """One loader call, without the inputs that can be left out."""

    loader: str
    inputs: tuple[tuple[str, Value], ...]

    @classmethod
    def of(cls, loader: str, inputs: Mapping[str, Value]) -> WrittenCall:
        """Drop defaults: ComfyUI's editor always writes them, programs often do not."""
        same = object()
        kept = ((k, v) for k, v in inputs.items() if v != _AS_LEFT_OUT.get((loader, k), same))
        return cls(loader, tuple(kept))


def as_entry(call: WrittenCall) -> dict[str, Any]:
    """Return the shorthand if no input clashes with its keys, else the loader with its inputs."""
    inputs = dict(call.inputs)
    key, names = _SHORT.get(call.loader, ("", ()))
    files = [inputs.pop(name) for name in names if isinstance(inputs.get(name), str)]
    if key and len(files) == len(names) and not inputs.keys() & set(ENTRY_KEYS):
        return {key: files[0] if len(files) == 1 else files, **inputs}
    return {"loader": call.loader, **({"inputs": dict(call.inputs)} if call.inputs else {})}


def as_yaml(row: dict[str, Any]) -> str:
    """Format a list item: one key per line, lists and inputs on one line."""
    lines: list[str] = []
    for key, value in row.items():
        flow = None if isinstance(value, list | dict) else False
        dumped: str = yaml.safe_dump(
            {key: value}, sort_keys=False, allow_unicode=True, default_flow_style=flow, width=10_000
        )
        lines += dumped.splitlines()
    return "- " + "\n  ".join(lines)


def reading_back(call: WrittenCall, written: str) -> str:
    """Return why the YAML does not mean the same call, or an empty text.

    `${…}` in a file name does not, for example.
    """
    entries = validate(parse(f"models:\n{written}\n")).entries
    problems: Iterable[str] = (p.message for entry in entries for p in entry.problems)
    if complaint := "; ".join(problems):
        return complaint
    same = [(entry.loader, dict(entry.inputs)) == (call.loader, dict(call.inputs)) for entry in entries]
    return "" if same == [True] else f"it cannot be written as YAML: {json.dumps(dict(call.inputs))[:200]}"
