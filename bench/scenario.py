"""The workloads of the benchmarks: model files, the settings that list them, the prompt that uses them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench import sd15
from tests.support import models as tiny
from tests.support import prompts
from tests.support.prompts import Prompt


@dataclass(frozen=True)
class Scenario:
    """One workload.

    `prompt(n)` has another seed and other texts for every n, so that nothing is cached between prompts.
    """

    title: str
    models: Path
    files: tuple[Path, ...]
    preload: str
    prompt: Callable[[int], Prompt]

    @property
    def bytes(self) -> int:
        """Return the size of all model files."""
        return sum(file.stat().st_size for file in self.files)

    def evict(self) -> None:
        """Evict the model files from the page cache."""
        evict(self.files)


def evict(files: Iterable[Path]) -> None:
    """Evict these files from the page cache, if the system can: the next read comes from the disk."""
    if not hasattr(os, "posix_fadvise"):
        return
    for file in files:
        try:
            handle = os.open(file, os.O_RDONLY)
        except OSError:
            continue
        try:
            os.fsync(handle)  # dirty pages cannot be evicted
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(handle)


def random_sd15(out: Path) -> Scenario:
    """Return one checkpoint of the size of Stable Diffusion 1.5 with random weights."""
    file = sd15.checkpoint(out / "models")
    return _checkpoint("SD1.5-sized checkpoint, random weights", out / "models", file)


def three_sd15(out: Path) -> Scenario:
    """Return the same as three files: UNet, text encoder, VAE."""
    files = sd15.split(out / "models")
    name = files[0].name
    preload = f"models:\n  - unet: {name}\n  - {{clip: {name}, type: stable_diffusion}}\n  - vae: {name}\n"

    def prompt(number: int) -> Prompt:
        return prompts.parts_image(file=name, seed=number, text=_text(number), negative=_negative(number))

    return Scenario("SD1.5-sized, three files, random weights", out / "models", tuple(files), preload, prompt)


def random_sdxl(out: Path) -> Scenario:
    """Return one diffusion model of the size of SDXL's UNet, 5.2 GB, and a small text encoder."""
    return replace(several(out, 1, 26), title="SDXL-sized diffusion model, random weights")


def real_checkpoint(out: Path, file: Path) -> Scenario:
    """Return the user's own SD1.5 or SDXL checkpoint; linked, not copied."""
    file = file.expanduser().resolve(strict=True)
    link = out / "linked" / "checkpoints" / file.name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(file)
    return _checkpoint(file.name, out / "linked", file)


def small(out: Path) -> Scenario:
    """Return tiny models in three files: they show the mechanism in seconds, with little gain."""
    models = out / "small"
    files = (
        tiny.tiny_unet(models / "diffusion_models" / "tiny.safetensors"),
        tiny.tiny_clip(models / "text_encoders" / "clip_l.safetensors"),
        *tiny.tiny_taesd(models / "vae_approx", "taesd3"),
    )
    preload = (
        "models:\n  - unet: tiny.safetensors\n  - clip: clip_l.safetensors\n    type: sd3\n  - vae: taesd3\n"
    )

    def prompt(number: int) -> Prompt:
        return prompts.image(vae="taesd3", seed=number, text=_text(number), negative=_negative(number))

    return Scenario("tiny models", models, files, preload, prompt)


def several(out: Path, count: int, depth: int) -> Scenario:
    """Return several diffusion models of one size, all used by one prompt, with one small text encoder."""
    models = out / "grow"
    files = [
        tiny.sd3_unet(models / "diffusion_models" / f"depth{depth}-{n}.safetensors", depth, n)
        for n in range(count)
    ]
    clip = tiny.tiny_clip(models / "text_encoders" / "clip_l.safetensors")
    entries = "".join(f"  - unet: {file.name}\n" for file in files)

    def prompt(number: int) -> Prompt:
        graph: Prompt = {}
        for index, file in enumerate(files):
            one = prompts.image(unet=file.name, seed=number, text=_text(number), negative=_negative(number))
            graph |= {f"{index}.{name}": _renamed(node, index) for name, node in one.items()}
        return graph

    size = sum(file.stat().st_size for file in files)
    return Scenario(
        f"{count} x {size / count / 1e9:.2f} GB",
        models,
        (*files, clip),
        f"models:\n{entries}  - clip: clip_l.safetensors\n    type: sd3\n",
        prompt,
    )


def _renamed(node: dict[str, Any], index: int) -> dict[str, Any]:
    """Return the node with its links renamed to the same copy of the graph."""
    inputs = {n: [f"{index}.{v[0]}", *v[1:]] if isinstance(v, list) else v for n, v in node["inputs"].items()}
    return {**node, "inputs": inputs}


def _checkpoint(title: str, models: Path, file: Path) -> Scenario:
    def prompt(number: int) -> Prompt:
        return prompts.checkpoint_image(
            checkpoint=file.name, seed=number, text=_text(number), negative=_negative(number)
        )

    return Scenario(title, models, (file,), f"models:\n  - checkpoint: {file.name}\n", prompt)


def _text(number: int) -> str:
    return f"a lighthouse, number {number}"


def _negative(number: int) -> str:
    return f"blurry, number {number}"
