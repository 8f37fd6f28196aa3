"""What can be done before torch is imported: read the settings, start the prefetch.

Imports nothing but PyYAML and psutil besides the standard library, and of ComfyUI only
`folder_paths`, which is complete by then (extra_model_paths.yaml included).
"""

from __future__ import annotations

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


def begin(root: Path) -> None:
    """Never raises. Settings are only glanced at: `startup.py` complains about what is wrong."""
    try:
        data = read(find(root)).data
        if isinstance(data, dict) and isinstance(data.get("models"), list) and data["models"]:
            _prefetch(data)
    except PreloadError:
        pass  # reported by startup.py
    except Exception:  # noqa: BLE001 — whatever it is, ComfyUI must start
        log.exception("the prefetch could not be started; models are read when they are loaded")


def _prefetch(data: dict[str, Any]) -> None:
    from .core import prefetch

    told = data.get("prefetch")
    options = told if isinstance(told, dict) else {}
    if options.get("enabled", True) is not True or data.get("when") is False:
        return
    share, readers = options.get("memory", 0.8), options.get("readers", "auto")
    prefetch.begin(
        list(_files(data["models"])),
        share=float(share) if isinstance(share, int | float) else 0.8,
        readers=readers if isinstance(readers, int) and 0 < readers <= 64 else None,
    )


def _files(entries: list[Any]) -> Iterator[Path]:
    """The model files that the entries name, as far as they can be told without the loader nodes."""
    from .host.files import find

    for entry in entries:
        if not isinstance(entry, dict):
            continue
        for key, folders in _FOLDERS.items():
            given = entry.get(key)
            names = given if isinstance(given, list) else [given]
            yield from (file.path for name in names if name and isinstance(name, str) for file in find(name, folders))
        inputs = entry.get("inputs")
        for value in inputs.values() if isinstance(inputs, dict) else ():
            if isinstance(value, str) and value:
                yield from (file.path for file in find(value))
