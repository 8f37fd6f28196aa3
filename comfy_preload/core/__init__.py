"""Ordinary Python: no torch, no ComfyUI. `tests/unit/test_purity.py` proves it."""
