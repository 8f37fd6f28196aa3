"""What can be done before torch is imported: read the settings, answer probes, start to read the model files.

Imports nothing but PyYAML and psutil besides the standard library, and of ComfyUI only
`folder_paths`, which is complete by then (extra_model_paths.yaml included), and `comfy.cli_args`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from comfy_preload.core.errors import PreloadError
from comfy_preload.core.log import log
from comfy_preload.core.machine import pretouch
from comfy_preload.core.machine.head_start import HeadStart
from comfy_preload.core.settings.document import read, settings_path
from comfy_preload.core.state.readiness import Readiness

if TYPE_CHECKING:
    from comfy_preload.api.probe import Probe
    from comfy_preload.core.machine.prefetch import Gate

_FOLDERS = {
    "checkpoint": ("checkpoints",),
    "unet": ("diffusion_models",),
    "clip": ("text_encoders",),
    "vae": ("vae",),
}
head_start = HeadStart()
early_probe: Probe | None = None
"""Both are set here and read by `plugin.py`, once: this module is where prestartup and start-up meet."""
WORKING_MEMORY = 512 << 20
"""Bytes that a first prompt needs beside the models, at most: a quarter of what small ones have."""


def begin() -> None:
    """Never raises. Settings are only glanced at: `boot/plugin.py` complains about what is wrong.

    The rest is done by a thread: looking for a file may block on a mount that does not answer.
    """
    settings = settings_path()
    try:
        data = read(settings).data
    except PreloadError:
        return  # reported by boot/plugin.py
    if not isinstance(data, dict):
        return
    _listen(data.get("probe"))
    options = _prefetch_options(data)
    if options is None or not any(
        isinstance(data.get(key), list) and data[key] for key in ("models", "workflows")
    ):
        return
    if options.get("pretouch", True) is True:
        pretouch.prefer_huge_pages()
    threading.Thread(
        target=_begin, args=(data, options, settings.parent), name="preload-early", daemon=True
    ).start()


def _prefetch_options(data: dict[str, Any]) -> dict[str, Any] | None:
    """None if nothing is to be read ahead."""
    told = data.get("prefetch")
    options = told if isinstance(told, dict) else {}
    return None if options.get("enabled", True) is not True or data.get("when") in (False, "off") else options


def _listen(options: Any) -> None:
    global early_probe  # noqa: PLW0603 — see there
    port = options.get("port") if isinstance(options, dict) else None
    if not isinstance(port, int) or not 0 < port < 1 << 16:
        return
    try:
        from comfy_preload.api import probe
        from comfy_preload.host.files import listens_at

        addresses, own = listens_at()
        if port == own:
            log.warning("probe: port %d is ComfyUI's own; no early answers; choose another probe.port", port)
            return
        early_probe = probe.start(addresses, port, Readiness.idle().snapshot)
    except Exception:  # noqa: BLE001 — ComfyUI must start
        log.exception("the early probe could not be started")


def _begin(data: dict[str, Any], options: dict[str, Any], folder: Path) -> None:
    try:
        _read_ahead(data, options, folder)
    except Exception:  # noqa: BLE001 — whatever it is, models are then read when they are loaded
        log.exception("the model files could not be read ahead")


def _read_ahead(data: dict[str, Any], options: dict[str, Any], folder: Path) -> None:
    from comfy_preload.core.machine import memory, prefetch
    from comfy_preload.host.files import computes_in_ram

    share, readers = options.get("memory", 0.8), options.get("readers", "auto")
    room = int((share if isinstance(share, int | float) else 0.8) * memory.available())
    files = list(
        dict.fromkeys(
            [*_files(data.get("models") or []), *_of_workflows(data.get("workflows") or [], folder)]
        )
    )
    count = readers if isinstance(readers, int) and 0 < readers <= 64 else None
    head_start.prefetch = prefetch.Prefetch(
        files, budget=room, readers=count, gate=_gate(data.get("registry"))
    )
    head_start.prefetch.start()
    if options.get("pretouch", True) is True:
        size = sum(file.stat().st_size for file in files if file.is_file())
        if computes_in_ram():
            head_start.pretouch = pretouch.Pretouch(
                min(2 * size, room - size), min(WORKING_MEMORY, size // 4, room - 2 * size)
            )
        else:
            head_start.pretouch = pretouch.Pretouch(min(size, room - size))
        head_start.pretouch.start()


def _gate(told: Any) -> Gate | None:
    """Who may hold up reading: replicas that share the storage, if the settings have a registry."""
    if not told:
        return None
    from comfy_preload.registry.lease import gate

    return gate(told)


def _files(entries: list[Any]) -> Iterator[Path]:
    """The model files that the entries name, as far as they can be told without the loader nodes."""
    from comfy_preload.host.files import find, usual_folder

    for entry in entries:
        if not isinstance(entry, dict):
            continue
        for key, folders in _FOLDERS.items():
            given = entry.get(key)
            names = given if isinstance(given, list) else [given]
            yield from (
                file.path for name in names if name and isinstance(name, str) for file in find(name, folders)
            )
        inputs = entry.get("inputs")
        for key, value in inputs.items() if isinstance(inputs, dict) else ():
            if isinstance(value, str) and value:
                usual = usual_folder(str(key))
                yield from (file.path for file in find(value, [usual] if usual else []))


def _of_workflows(entries: list[Any], folder: Path) -> Iterator[Path]:
    """Every model file that the workflows name, LoRAs and the like included: these are not preloaded but soon read."""
    from comfy_preload.core.workflow.files import files_of
    from comfy_preload.core.workflow.locate import locate
    from comfy_preload.core.workflow.reader import MAX_BYTES
    from comfy_preload.host.files import find, user_folder

    for entry in entries:
        path = entry.get("path") if isinstance(entry, dict) else None
        for _, workflow in locate(path, (folder, user_folder())) if isinstance(path, str) and path else ():
            try:
                with workflow.open("rb") as stream:
                    names = files_of(stream.read(MAX_BYTES + 1))
            except (PreloadError, OSError):
                continue  # reported by boot/plugin.py
            yield from (file.path for name in names for file in find(name))
