"""Owns what is applied, in each way that we ship; the models are those of tests/server."""

from __future__ import annotations

import pytest

from tests.deploy.manifests import RENDERED, Manifest
from tests.server.conftest import models

__all__ = ["models"]


@pytest.fixture(params=RENDERED)
def rendered(request: pytest.FixtureRequest) -> list[Manifest]:
    """What is applied to a cluster, in each way that we ship."""
    return RENDERED[request.param]()
