"""Owns the residency that these tests ask."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from comfy_preload.core.planning.plan import build
from comfy_preload.core.settings.document import parse
from comfy_preload.core.settings.validation import validate
from comfy_preload.core.state.residency import Residency
from comfy_preload.core.state.slot import Slot, Stage
from tests.support.catalogue import FOLDERS, Catalogue
from tests.support.stand import Stand


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The model's file."""
    file = tmp_path / "checkpoints" / "sd15.safetensors"
    file.parent.mkdir()
    file.write_bytes(b"weights")
    return file


@pytest.fixture
def stand(path: Path) -> Stand:
    """One checkpoint, planned and being preloaded."""
    catalogue = Catalogue(FOLDERS, path.parents[1])
    [call] = build(validate(parse("models: [checkpoint: sd15.safetensors]")).entries, catalogue).calls
    repaired: list[Any] = []
    residency = Residency(
        repair=repaired.append, usable=lambda outputs: "" if isinstance(outputs, tuple) else "no tuple"
    )
    residency.reset([Slot(call, stage=Stage.LOADING)])
    return Stand(residency, residency.slots[0], repaired)
