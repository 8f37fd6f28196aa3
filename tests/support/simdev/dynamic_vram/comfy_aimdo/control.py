"""Switching it on, and its log levels, which do nothing here."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from comfy_aimdo.model_vbar import vbars_analyze

lib = object()
devctxs: list[Any] = []


def init(*_: Any, **__: Any) -> bool:
    return True


def init_devices(ids: Iterable[Any]) -> bool:
    devctxs.extend(ids)
    return True


def init_device(*_: Any) -> bool:
    return True


def get_total_vram_usage() -> int:
    return vbars_analyze()


def detect_vendor() -> str:
    return "cuda"


def _nothing(*_: Any, **__: Any) -> None:
    return None


deinit = analyze = get_devctx = _nothing
set_log_none = set_log_critical = set_log_error = set_log_warning = set_log_info = _nothing
set_log_detail = set_log_debug = set_log_verbose = set_log_vverbose = _nothing
