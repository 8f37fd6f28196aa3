"""What can be done before torch is imported: read the settings, start to read the model files.

Imports nothing but PyYAML and psutil besides the standard library, and of ComfyUI only
`folder_paths`, which is complete by then (extra_model_paths.yaml included), and `comfy.cli_args`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .core.document import find, read
from .core.errors import PreloadError
from .core.log import log

_FOLDERS = {
    "checkpoint": ("checkpoints",),
    "unet": ("diffusion_models",),
    "clip": ("text_encoders",),
    "vae": ("vae",),
}
WORKING_MEMORY = 512 << 20
"""Bytes that a first prompt needs beside the models."""


def begin(root: Path) -> None:
    """Never raises. Settings are only glanced at: `startup.py` complains about what is wrong.

    The rest is done by a thread: looking for a file may block on a mount that does not answer.
    """
    try:
        data = read(find(root)).data
    except PreloadError:
        return  # reported by startup.py
    if isinstance(data, dict) and isinstance(data.get("models"), list) and data["models"]:
        threading.Thread(target=_begin, args=(data,), name="preload-early", daemon=True).start()


def _begin(data: dict[str, Any]) -> None:
    try:
        _read_ahead(data)
    except Exception:  # noqa: BLE001 — whatever it is, models are then read when they are loaded
        log.exception("the model files could not be read ahead")


def _read_ahead(data: dict[str, Any]) -> None:
    from .core import memory, prefetch, pretouch
    from .host.files import weights_grow_by

    told = data.get("prefetch")
    options = told if isinstance(told, dict) else {}
    if options.get("enabled", True) is not True or data.get("when") is False:
        return
    share, readers = options.get("memory", 0.8), options.get("readers", "auto")
    room = int((share if isinstance(share, int | float) else 0.8) * memory.available())
    files = list(dict.fromkeys(_files(data["models"])))
    prefetch.begin(files, budget=room, readers=readers if isinstance(readers, int) and 0 < readers <= 64 else None)
    if options.get("pretouch", True) is True:
        size = sum(file.stat().st_size for file in files if file.is_file())
        pretouch.begin(min(size * weights_grow_by() + WORKING_MEMORY, room - size))


def _files(entries: list[Any]) -> Iterator[Path]:
    """The model files that the entries name, as far as they can be told without the loader nodes."""
    from .host.files import find, usual_folder

    for entry in entries:
        if not isinstance(entry, dict):
            continue
        for key, folders in _FOLDERS.items():
            given = entry.get(key)
            names = given if isinstance(given, list) else [given]
            yield from (file.path for name in names if name and isinstance(name, str) for file in find(name, folders))
        inputs = entry.get("inputs")
        for key, value in inputs.items() if isinstance(inputs, dict) else ():
            if isinstance(value, str) and value:
                usual = usual_folder(str(key))
                yield from (file.path for file in find(value, [usual] if usual else []))
