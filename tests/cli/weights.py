"""Owns files of fp32 weights for `convert`, and the running of it."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from tests.cli.command import Done, run


def wide(count: int = 3_000_001, seed: int = 0) -> NDArray[np.float32]:
    """Every kind of fp32 number that fp16 can hold, and more numbers than one block has."""
    random = np.random.default_rng(seed)
    numbers = (random.standard_normal(count) * 10.0 ** random.integers(-9, 4, count)).astype(np.float32)
    numbers = np.clip(numbers, -65000, 65000)
    numbers[:8] = [0.0, -0.0, np.inf, -np.inf, np.nan, 65504.0, 2.0**-25, 1.00048828125]
    return numbers


def raw(path: Path, header: dict[str, Any], data: bytes) -> Path:
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def row(dtype: str, shape: list[int], begin: int, end: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def converted(
    tmp_path: Path, tensors: dict[str, NDArray[Any]], *words: str, dtype: str = "fp16", **more: Any
) -> tuple[Done, Path]:
    source, target = tmp_path / "in.safetensors", tmp_path / "out.safetensors"
    save_file(tensors, source, **more)
    return run("convert", source, target, "--dtype", dtype, *words), target
