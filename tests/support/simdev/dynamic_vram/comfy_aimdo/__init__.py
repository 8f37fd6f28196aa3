"""A stand-in for comfy-aimdo 0.4 over the simulated device.

What ComfyUI's ModelPatcherDynamic calls (0.33.0).

Put its folder first on PYTHONPATH and start ComfyUI with --enable-dynamic-vram. Its order of eviction is its
own; there are no watermarks and no streams.
"""
