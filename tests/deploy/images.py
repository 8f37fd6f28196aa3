"""Owns the images that test_images.py looks at: all three stages of deploy/docker, built once."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.deploy import dockerfile
from tests.deploy.buildah import Image, Store, pack_comfyui
from tests.support import models as tiny
from tests.support import prompts
from tools.host import comfyui_path

log = logging.getLogger("images")
STAGES = ("base", "runtime", "app")
PRELOAD = """
probe: {{port: {probe}}}
models:
  - unet: tiny.safetensors
  - vae: taesd3
workflows:
  - path: workflows/image.json
    warmup: true
"""


class Built(NamedTuple):
    """What the tests look at: a copy of what Docker would be sent, and the images made of it."""

    store: Store
    context: Path
    images: dict[str, Image]


@contextmanager
def all_stages(folder: Path) -> Iterator[Built]:
    """All three stages, one after the other; removed at the end."""
    context = folder / "context"
    for name in dockerfile.sent():
        (context / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(dockerfile.ROOT / name, context / name)
    app = context / "deploy" / "docker" / "app"
    fill(app / "models")
    (app / "workflows" / "image.json").write_text(json.dumps(prompts.image(vae="taesd3")), encoding="utf-8")
    (app / "preload.yaml").write_text(PRELOAD.format(probe=9188), encoding="utf-8")
    pack_comfyui(comfyui_path(), folder / "comfyui.tar.gz")

    store = Store(folder / "store")
    try:
        store.debian()
        images = {stage: build(store, stage, context) for stage in STAGES}
        for stage, below in zip(STAGES, ((), images["base"].layers, images["runtime"].layers), strict=True):
            sizes = images[stage].sizes
            own = [f"{size / 1e6:.2f}" for size in sizes[len(below) :]]
            log.info(
                "%s: %.0f s, %.2f GB; its layers in MB: %s",
                stage,
                store.seconds[stage],
                sum(sizes) / 1e9,
                " ".join(own),
            )
        yield Built(store, context, images)
    finally:
        store.remove()
        shutil.rmtree(folder)


def fill(models: Path, seed: int = 0) -> None:
    tiny.tiny_unet(models / "diffusion_models" / "tiny.safetensors", seed)
    tiny.tiny_clip(models / "text_encoders" / "clip_l.safetensors", seed)
    tiny.tiny_taesd(models / "vae_approx", "taesd3", seed)


def build(store: Store, stage: str, context: Path, tag: str | None = None, sha256: str = "") -> Image:
    archive = context.parent / "comfyui.tar.gz"
    inside = "/mnt/comfyui.tar.gz"
    sha256 = sha256 or hashlib.sha256(archive.read_bytes()).hexdigest()
    where = ("--volume", f"{archive}:{inside}:ro", "--build-arg", f"COMFYUI_URL=file://{inside}")
    return store.build(stage, context, *where, "--build-arg", f"COMFYUI_SHA256={sha256}", tag=tag)
