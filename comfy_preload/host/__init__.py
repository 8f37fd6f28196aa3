"""The only place that knows ComfyUI. Tried on 0.3.75 and 0.33.0, on the CPU only."""
