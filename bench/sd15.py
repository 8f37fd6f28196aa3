"""Write the benchmark's model: Stable Diffusion 1.5 with random weights, 2.13 GB of fp16.

python -m bench.sd15 FOLDER            FOLDER/checkpoints/sd15-random.safetensors, for CheckpointLoaderSimple
python -m bench.sd15 FOLDER --split    the same as three files, for UNETLoader, CLIPLoader and VAELoader
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

from tests.support import safetensors_file
from tests.support.safetensors_file import Shapes
from tools.host import comfyui_path, comfyui_python

NAME = "sd15-random.safetensors"

# The prefix of these tensors in a checkpoint, and the folder of the separate file.
_PREFIX = {
    "unet": "model.diffusion_model.",
    "clip": "cond_stage_model.transformer.",
    "vae": "first_stage_model.",
}
_FOLDER = {"unet": "diffusion_models", "clip": "text_encoders", "vae": "vae"}
# SD 1.5 has none of these; in a checkpoint they would make ComfyUI detect another model.
_NOT_IN_CHECKPOINT = "text_projection.weight"


def checkpoint(models: Path) -> Path:
    """Write the checkpoint unless it exists."""
    shapes = {
        _PREFIX[part] + name: shape
        for part, tensors in host_shapes().items()
        for name, shape in tensors.items()
        if name != _NOT_IN_CHECKPOINT
    }
    return _once(models / "checkpoints" / NAME, shapes)


def split(models: Path) -> list[Path]:
    """Write UNet, CLIP-L and VAE as separate files unless they exist."""
    return [_once(models / _FOLDER[part] / NAME, shapes) for part, shapes in host_shapes().items()]


@cache
def host_shapes() -> dict[str, Shapes]:
    """Return names and shapes by part (unet, clip, vae), as the installed ComfyUI builds them."""
    script = Path(__file__).with_name("sd15_shapes.py")
    command = [str(comfyui_python()), str(script), str(comfyui_path())]
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    # ComfyUI may print something before the JSON.
    parts: dict[str, dict[str, list[int]]] = json.loads(answer.splitlines()[-1])
    return {part: {name: tuple(shape) for name, shape in tensors.items()} for part, tensors in parts.items()}


def _once(path: Path, shapes: Shapes) -> Path:
    if path.exists() and path.stat().st_size == safetensors_file.size(shapes):
        return path
    return safetensors_file.write(path, shapes)


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Write a random model of the size of Stable Diffusion 1.5.")
    parser.add_argument("folder", type=Path, help="a ComfyUI models folder")
    parser.add_argument("--split", action="store_true", help="three files instead of one checkpoint")
    options = parser.parse_args()
    begun = time.monotonic()
    for path in split(options.folder) if options.split else [checkpoint(options.folder)]:
        print(f"{path}  {path.stat().st_size / 1e9:.2f} GB")
    print(f"{time.monotonic() - begun:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
