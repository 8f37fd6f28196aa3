"""Owns GGUF files for tests, written by the `gguf` package, whose reader the loaders of ComfyUI-GGUF use."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

__all__ = ["write"]


def write(path: Path, *, tokens: int = 1, alignment: int | None = None, big_endian: bool = False) -> Path:
    """Write three tensors of three types, and key-value pairs of several kinds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    endianess = gguf.GGUFEndian.BIG if big_endian else gguf.GGUFEndian.LITTLE
    writer = gguf.GGUFWriter(path, "flux", endianess=endianess)
    if alignment:
        writer.add_custom_alignment(alignment)
    writer.add_uint32("a.number", 7)
    writer.add_float64("a.float", 0.5)
    writer.add_bool("a.flag", val=True)
    writer.add_array("a.list", [1, 2, 3])
    writer.add_array("tokenizer.ggml.tokens", [f"token {i}" for i in range(tokens)])
    writer.add_tensor("f32", np.ones((5, 3), dtype=np.float32))
    writer.add_tensor("f16", np.ones((7,), dtype=np.float16))
    writer.add_tensor("q8", np.zeros((2, 34), dtype=np.uint8), raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
