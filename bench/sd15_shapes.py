"""Print the names and shapes of the tensors of Stable Diffusion 1.5, as the installed ComfyUI builds them.

Run by ComfyUI's own Python: `python sd15_shapes.py COMFYUI_FOLDER` prints {"unet": {name: shape}, "clip": …,
"vae": …}. The modules are built on the meta device: nothing is allocated.
"""
# pyright: reportMissingImports=false

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

UNET = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 320,
    "num_res_blocks": [2, 2, 2, 2],
    "channel_mult": [1, 2, 4, 4],
    "num_heads": 8,
    "use_spatial_transformer": True,
    "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
    "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
    "transformer_depth_middle": 1,
    "context_dim": 768,
    "legacy": False,
}
VAE = {
    "double_z": True,
    "z_channels": 4,
    "resolution": 256,
    "in_channels": 3,
    "out_ch": 3,
    "ch": 128,
    "ch_mult": [1, 2, 4, 4],
    "num_res_blocks": 2,
    "attn_resolutions": [],
    "dropout": 0.0,
}


def main(host: Path) -> None:
    """Print the shapes as JSON."""
    sys.path.insert(0, str(host))
    sys.argv[1:] = ["--cpu"]  # ComfyUI reads its device from the command line, at import
    import comfy.options

    comfy.options.enable_args_parsing()
    import comfy.clip_model
    import comfy.ops
    import torch
    from comfy.ldm.models.autoencoder import AutoencoderKL
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    operations = comfy.ops.manual_cast
    clip = json.loads((host / "comfy" / "sd1_clip_config.json").read_text(encoding="utf-8"))
    with torch.device("meta"):
        modules: dict[str, Any] = {
            "unet": UNetModel(**UNET, dtype=torch.float16, device="meta", operations=operations),
            "clip": comfy.clip_model.CLIPTextModel(clip, torch.float16, "meta", operations),
            "vae": AutoencoderKL(ddconfig=VAE, embed_dim=4),
        }
    shapes = {
        part: {name: list(t.shape) for name, t in module.state_dict().items()}
        for part, module in modules.items()
    }
    print(json.dumps(shapes))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
