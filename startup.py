"""What ComfyUI's import of this folder sets in motion. Cheap when there is nothing to preload."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from .api.routes import register
from .core.document import Document, find, read
from .core.errors import PreloadError, Problem, problem
from .core.log import log
from .core.readiness import Phase, Readiness
from .core.residency import Residency
from .host.server import prompt_server

_installed = False


def install(root: Path) -> None:
    """Read the settings, add the routes, and if there are models arrange the preload.

    Never raises: ComfyUI would go on without us, and `/ready` would be a 404.
    """
    global _installed  # noqa: PLW0603 — ComfyUI imports a second copy of the folder all the same
    server = prompt_server()
    if _installed:
        log.warning("the plugin is in custom_nodes twice; %s is ignored", root.name)
        return
    if server is None:  # ComfyUI as a library: no port, no queue, nobody to be ready for
        return
    _installed = True
    try:
        document, problems = _document(root)
        if not problems and _is_idle(document):
            register(server.routes, _nothing_to_do().snapshot)
        else:
            _preload(document, problems, server)
    except Exception as error:  # noqa: BLE001 — whatever it is, ComfyUI must start
        log.exception("the preload could not be set up; ComfyUI goes on without it")
        fault = problem("internal", error=type(error).__name__, reason="see ComfyUI's log")
        register(server.routes, _nothing_to_do(fault).snapshot)


def _preload(document: Document, problems: tuple[Problem, ...], server: Any) -> None:
    """Imported here, and not at the top, is what an empty list must not cost: pydantic, torch."""
    from .core.settings import settle

    settings = settle(document)
    settings = replace(settings, problems=(*problems, *settings.problems))
    if not settings.entries and settings.options.on_error != "exit":  # only problems: no host is needed to tell them
        for fault in settings.problems:
            log.error("%s", fault)
        register(server.routes, _nothing_to_do(*settings.problems).snapshot)
        return

    from .host.comfy import ComfyHost
    from .preload import Preloader

    preloader = Preloader(settings, ComfyHost(server))
    register(server.routes, preloader.readiness.snapshot)
    server.app.on_startup.append(preloader.start)


def _document(root: Path) -> tuple[Document, tuple[Problem, ...]]:
    try:
        return read(find(root)), ()
    except PreloadError as error:
        return Document(None), (error.problem,)


def _is_idle(document: Document) -> bool:
    """True if no model is listed and every key is known: told without validating the values."""
    data = {} if document.data is None else document.data
    if document.problems or not isinstance(data, dict) or data.get("models"):
        return False
    return data.keys() <= {"when", "models", "on_error", "timeout", "prefetch"}


def _nothing_to_do(*problems: Problem) -> Readiness:
    """Ready from the beginning, or failed for the given reasons."""
    residency = Residency(repair=lambda _: None, usable=lambda _: "")
    readiness = Readiness(residency, placement=_nothing_loaded)
    readiness.problems = problems
    readiness.move(Phase.SETTLED)
    return readiness


def _nothing_loaded(_: Any) -> Any:
    raise LookupError("nothing is loaded")
