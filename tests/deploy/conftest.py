"""Owns nothing: the models are those of tests/server."""

from __future__ import annotations

from tests.server.conftest import models

__all__ = ["models"]
