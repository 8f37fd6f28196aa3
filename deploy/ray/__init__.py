"""Many ComfyUI on Ray Serve: docs/ray.md. The only place that imports Ray."""
