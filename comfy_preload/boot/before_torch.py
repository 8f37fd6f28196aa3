"""Work that can be done before torch is imported: answer probes, read libraries and model files ahead.

Besides the standard library it imports only PyYAML and psutil, and from ComfyUI only `folder_paths`, which is
complete by then (extra_model_paths.yaml included), and `comfy.cli_args`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from comfy_preload.boot.collector import CollectorPause
from comfy_preload.core.errors import PreloadError
from comfy_preload.core.loader_table import KIND_FOLDERS, folder_of
from comfy_preload.core.log import log
from comfy_preload.core.machine.head_start import HeadStart
from comfy_preload.core.settings.document import read, settings_path
from comfy_preload.core.settings.glance import Glance, SnapshotGlance, glance
from comfy_preload.core.state.readiness import Readiness
from comfy_preload.core.state.startup import StartStage, Startup
from comfy_preload.core.text import gigabytes

if TYPE_CHECKING:
    from comfy_preload.api.probe import Probe
    from comfy_preload.core.machine.startup_reader import StartupReader

READERS = 2
"""Threads that read libraries ahead."""
head_start = HeadStart()
collector = CollectorPause()
startup = Startup(age=time.time() - psutil.Process().create_time())
early_probe: Probe | None = None
"""Set here before torch is imported, or after the hold; `plugin.py` reads it then."""


def begin() -> None:
    """Start what the settings ask for. Never raises; `boot/plugin.py` reports problems of the settings.

    A thread searches for the files: a mount that does not answer must not delay ComfyUI.
    """
    startup.enter(StartStage.IMPORTING)
    path = settings_path()
    try:
        seen = glance(read(path))
    except PreloadError:
        return  # reported by boot/plugin.py
    held = seen.snapshot is not None and _will_be_held(seen.snapshot)
    if seen.probe_port is not None and not held:
        open_probe(seen.probe_port)
    if seen.off or not seen.prefetch.enabled or not (seen.models or seen.workflows):
        return
    collector.begin()
    models = not (held and seen.snapshot and seen.snapshot.when == "imports")  # else it waits for the hold
    read_ahead(seen, path.parent, libraries=seen.prefetch.libraries, models=models)


def _will_be_held(asked: SnapshotGlance) -> bool:
    """Return whether a platform for snapshots is here. Take back what an earlier process announced."""
    from comfy_preload.stages.providers import provider_of

    provider = provider_of(asked)
    if provider:
        provider.clear()
    return provider is not None


def read_ahead(seen: Glance, folder: Path, *, libraries: bool, models: bool) -> None:
    """Start a thread that finds the files and begins to read them. Returns at once."""
    args = (seen, folder, libraries, models)
    head_start.finder = threading.Thread(target=_run, args=args, name="preload-early", daemon=True)
    head_start.finder.start()


def open_probe(port: int) -> None:
    """Start the early probe; what goes wrong is in the log."""
    global early_probe  # noqa: PLW0603 — see there
    try:
        from comfy_preload.api import probe
        from comfy_preload.host.files import listens_at

        addresses, own = listens_at()
        if port == own:
            log.warning(
                "probe.port %d is ComfyUI's own port; the early probe is disabled. Choose another port", port
            )
            return
        early_probe = probe.start(addresses, port, Readiness.idle(startup).snapshot)
    except Exception:  # noqa: BLE001 — ComfyUI must start
        log.exception("the early probe could not be started")


def _run(seen: Glance, folder: Path, libraries: bool, models: bool) -> None:  # noqa: FBT001 — a thread's
    try:
        _read_ahead(seen, folder, libraries=libraries, models=models)
    except Exception:  # noqa: BLE001 — models are then read when they are loaded
        log.exception("the prefetch could not be started")


def _read_ahead(seen: Glance, folder: Path, *, libraries: bool, models: bool) -> None:
    from comfy_preload.core.machine import memory
    from comfy_preload.core.machine.prefetch import Prefetch

    if libraries:
        try:
            _read_libraries(int(seen.prefetch.memory * memory.available()))
        except OSError as error:  # a limit of processes, for instance
            log.warning("libraries are not read ahead: %s", error)
    if not models:
        if head_start.libraries:
            _wait_for_libraries(head_start.libraries)
        return
    room = int(seen.prefetch.memory * memory.available())
    files = list(dict.fromkeys([*_files(seen.models), *_files_of_workflows(seen.workflows, folder)]))
    head_start.prefetch = Prefetch(files, budget=room, readers=seen.prefetch.readers)
    recorded = bool(libraries and head_start.libraries and _wait_for_libraries(head_start.libraries))
    head_start.prefetch.start(give_way=not recorded)  # a record: what imports read has been read


def _read_libraries(budget: int) -> None:
    """What the imports are about to read comes before the models: the start waits for it first."""
    from comfy_preload.core.machine.startup_reader import StartupReader
    from comfy_preload.core.machine.startup_record import torch_folder, versions
    from comfy_preload.host.files import comfyui_folder, startup_records

    head_start.libraries = reader = StartupReader()
    reader.start(
        startup_records(),
        torch=torch_folder(),
        made_for=versions(comfyui_folder()),
        budget=budget,
        readers=READERS,
    )


def _wait_for_libraries(reader: StartupReader) -> bool:
    """Return whether it had a record to read by."""
    said = reader.wait()
    if said is None:
        return False
    head_start.needs_record = not said["record"]
    why = "" if said["record"] else " (guessed: there is no record of an earlier start that fits)"
    log.info("read ahead %s of libraries in %.2f s%s", gigabytes(said["bytes"]), said["seconds"], why)
    return bool(said["record"])


def _files(entries: tuple[Any, ...]) -> Iterator[Path]:
    """Yield the model files of the entries, as far as they are known without the loader nodes."""
    from comfy_preload.host.files import find

    for entry in entries:
        if not isinstance(entry, dict):
            continue
        loader, inputs = entry.get("loader"), entry.get("inputs")
        named = [(folder, entry.get(kind)) for kind, folder in KIND_FOLDERS.items()]
        if isinstance(inputs, dict):
            named += [(folder_of(str(key), str(loader)), value) for key, value in inputs.items()]
        for folder, given in named:
            for name in given if isinstance(given, list) else [given]:
                if name and isinstance(name, str):
                    yield from (file.path for file in find(name, [folder] if folder else []))


def _files_of_workflows(paths: tuple[str, ...], folder: Path) -> Iterator[Path]:
    """Yield every model file in the workflows, including LoRAs, which are not preloaded but read soon."""
    from comfy_preload.core.workflow.files import files_of
    from comfy_preload.core.workflow.locate import locate
    from comfy_preload.core.workflow.reader import read_file
    from comfy_preload.host.files import find, user_folder

    for path in paths:
        for name, workflow in locate(path, (folder, user_folder())):
            try:
                names = files_of(read_file(workflow, name))
            except PreloadError:
                continue  # reported by boot/plugin.py
            yield from (file.path for model in names for file in find(model))


def record_startup() -> None:
    """Write down what this process has read so far.

    Whatever goes wrong costs the next start some seconds, no more.
    """
    from comfy_preload.core.machine.startup_record import text, versions, write
    from comfy_preload.core.machine.startup_trace import trace
    from comfy_preload.host.files import comfyui_folder, startup_records

    try:
        record = trace(versions(comfyui_folder()))
        write(startup_records()[0], text(record))
    except OSError as error:
        log.info("this start is not recorded: %s", error.strerror)
    except Exception:  # noqa: BLE001 — see above
        log.exception("this start could not be recorded")
    else:
        log.info(
            "recorded what this start has read: %d files, %s", len(record.files), gigabytes(record.bytes)
        )
