"""Reads workflow files as ComfyUI's editor would. Depends on `core.errors` and `core.node_types` only."""
