"""Write model files that are not what their names say, beside the good ones."""

from __future__ import annotations

import json
import pickle
import struct
from pathlib import Path
from typing import Any

from . import models as tiny

TOO_BIG = 1 << 41
"""2 TB: more than any machine's memory. The file is sparse and uses no disk space."""


class _Bomb:
    """Unpickling this object creates a file."""

    def __init__(self, target: Path) -> None:
        self._target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self._target), "w")


def write_bad_files(models: Path, bomb_target: Path) -> None:
    """Write one file of each bad kind."""
    unets = models / "diffusion_models"
    (unets / "empty.safetensors").touch()
    (unets / "page.safetensors").write_text(
        "<!DOCTYPE html><html><body>Please log in</body></html>" * 9, encoding="utf-8"
    )
    (unets / "pointer.safetensors").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:0\n", encoding="utf-8"
    )
    (unets / "garbage.safetensors").write_bytes(bytes(range(256)) * 64)
    (unets / "no json.safetensors").write_bytes(struct.pack("<Q", 64) + b"x" * 4096)
    (unets / "huge header.safetensors").write_bytes(struct.pack("<Q", 1 << 60) + b"{}" * 64)
    whole = (unets / "tiny.safetensors").read_bytes()
    (unets / "truncated.safetensors").write_bytes(whole[: len(whole) // 2])
    tiny.tiny_vae(unets / "a vae.safetensors")
    (unets / "a folder.safetensors").mkdir()
    with (models / "checkpoints" / "bomb.ckpt").open("wb") as file:
        pickle.dump({"state_dict": _Bomb(bomb_target)}, file)
    write_sparse(unets / "sparse.safetensors")


def write_sparse(path: Path) -> None:
    """A file of 2.2 TB that takes no space, with a header to match."""
    entries = {"weight": {"dtype": "F16", "shape": [TOO_BIG // 2], "data_offsets": [0, TOO_BIG]}}
    header = json.dumps(entries).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + TOO_BIG)
