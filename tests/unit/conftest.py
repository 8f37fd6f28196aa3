"""Owns how much hypothesis tries here: as much as ever, but a busy machine is not a failure."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("unit", deadline=None)
settings.load_profile("unit")
