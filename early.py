"""What can be done before torch is imported: read the settings, answer probes, start to read the model files.

Imports nothing but PyYAML and psutil besides the standard library, and of ComfyUI only
`folder_paths`, which is complete by then (extra_model_paths.yaml included), and `comfy.cli_args`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .core import pretouch
from .core.document import find, read
from .core.errors import PreloadError
from .core.host import NOWHERE
from .core.log import log
from .core.readiness import Readiness
from .core.residency import Residency

if TYPE_CHECKING:
    from .api.probe import Probe
    from .core.prefetch import Gate

_FOLDERS = {
    "checkpoint": ("checkpoints",),
    "unet": ("diffusion_models",),
    "clip": ("text_encoders",),
    "vae": ("vae",),
}
listener: Probe | None = None
"""The early probe, if the settings ask for one; `startup.py` gives it more to tell."""
WORKING_MEMORY = 512 << 20
"""Bytes that a first prompt needs beside the models, at most: a quarter of what small ones have."""


def begin(root: Path) -> None:
    """Never raises. Settings are only glanced at: `startup.py` complains about what is wrong.

    The rest is done by a thread: looking for a file may block on a mount that does not answer.
    """
    settings = find(root)
    try:
        data = read(settings).data
    except PreloadError:
        return  # reported by startup.py
    if not isinstance(data, dict):
        return
    _listen(data.get("probe"))
    options = _prefetch_options(data)
    if options is None or not any(isinstance(data.get(key), list) and data[key] for key in ("models", "workflows")):
        return
    if options.get("pretouch", True) is True:
        pretouch.prefer_huge_pages()
    threading.Thread(target=_begin, args=(data, options, settings.parent), name="preload-early", daemon=True).start()


def _prefetch_options(data: dict[str, Any]) -> dict[str, Any] | None:
    """None if nothing is to be read ahead."""
    told = data.get("prefetch")
    options = told if isinstance(told, dict) else {}
    return None if options.get("enabled", True) is not True or data.get("when") in (False, "off") else options


def _listen(options: Any) -> None:
    global listener  # noqa: PLW0603 — prestartup and startup meet in nothing but this module
    port = options.get("port") if isinstance(options, dict) else None
    if not isinstance(port, int) or not 0 < port < 1 << 16:
        return
    try:
        from .api import probe
        from .host.files import listens_at

        addresses, own = listens_at()
        if port == own:
            log.warning("probe: port %d is ComfyUI's own; no early answers; choose another probe.port", port)
            return
        nothing_yet = Readiness(Residency(repair=lambda _: None, usable=lambda _: ""), placement=lambda _: NOWHERE)
        listener = probe.start(addresses, port, nothing_yet.snapshot)
    except Exception:  # noqa: BLE001 — ComfyUI must start
        log.exception("the early probe could not be started")


def _begin(data: dict[str, Any], options: dict[str, Any], folder: Path) -> None:
    try:
        _read_ahead(data, options, folder)
    except Exception:  # noqa: BLE001 — whatever it is, models are then read when they are loaded
        log.exception("the model files could not be read ahead")


def _read_ahead(data: dict[str, Any], options: dict[str, Any], folder: Path) -> None:
    from .core import memory, prefetch
    from .host.files import computes_in_ram

    share, readers = options.get("memory", 0.8), options.get("readers", "auto")
    room = int((share if isinstance(share, int | float) else 0.8) * memory.available())
    files = list(dict.fromkeys([*_files(data.get("models") or []), *_of_workflows(data.get("workflows") or [], folder)]))
    count = readers if isinstance(readers, int) and 0 < readers <= 64 else None
    prefetch.begin(files, budget=room, readers=count, gate=_gate(data.get("registry")))
    if options.get("pretouch", True) is True:
        size = sum(file.stat().st_size for file in files if file.is_file())
        if computes_in_ram():
            pretouch.begin(min(2 * size, room - size), spare=min(WORKING_MEMORY, size // 4, room - 2 * size))
        else:
            pretouch.begin(min(size, room - size), spare=0)


def _gate(told: Any) -> Gate | None:
    """Who may hold up reading: replicas that share the storage, if the settings have a registry."""
    if not told:
        return None
    from .registry.lease import gate

    return gate(told)


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


def _of_workflows(entries: list[Any], folder: Path) -> Iterator[Path]:
    """Every model file that the workflows name, LoRAs and the like included: these are not preloaded but soon read."""
    from .core.locate import locate
    from .core.workflow import MAX_BYTES
    from .core.workflow_files import files_of
    from .host.files import find, user_folder

    for entry in entries:
        path = entry.get("path") if isinstance(entry, dict) else None
        for _, workflow in locate(path, (folder, user_folder())) if isinstance(path, str) and path else ():
            try:
                with workflow.open("rb") as stream:
                    names = files_of(stream.read(MAX_BYTES + 1))
            except (PreloadError, OSError):
                continue  # reported by startup.py
            yield from (file.path for name in names for file in find(name))
