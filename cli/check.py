"""`check`: the settings, the files, the storage and the memory, before ComfyUI is started."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..core.preflight import gigabytes
from . import machine
from .advice import Advice, advise, headers
from .machine import Machine
from .screen import Row, progress, say, say_json, table
from .storage import Speed, Storage, is_sparse, measure, storage_of
from .survey import Survey, say_findings, size, survey, survey_json

FORMULA = "bytes / measured speed, storage after storage"
BESIDE = (
    "ComfyUI's own start runs beside the reading; copying into modules and to the device comes on top. "
    "Both have to be measured once: see 'seconds' in /preload."
)


@dataclass(frozen=True)
class Laid:
    """The planned files that lie on one storage, together."""

    storage: Storage
    files: tuple[Path, ...]
    bytes: int
    speed: Speed | None

    @property
    def seconds(self) -> float | None:
        """To read them all at the measured speed."""
        return self.bytes / self.speed.rate if self.speed and self.speed.rate else None


def run(options: argparse.Namespace) -> int:
    """Exit code 1 if anything is wrong; advice alone is not."""
    found = survey(options)
    laid = lay(found.paths, int(options.read * 1e6), lambda at: progress(f"reading from {at.mount or 'storage'}"))
    progress("")
    known = headers(found.plan.calls)
    advice = list(advise(found.plan.calls, known, found.loaders))
    here = machine.look()
    if options.json:
        dtypes = {path: header.dtypes() for path, header in known.items()}
        say_json(_json(found, laid, here, advice, dtypes))
    else:
        _show(found, laid, here, advice)
    return 0 if found.good else 1


def lay(paths: list[Path], limit: int, begin: Callable[[Storage], None]) -> list[Laid]:
    """Sort the files by storage, and read from the largest file on each that has no holes."""
    by_storage: dict[Storage, list[Path]] = {}
    for path in paths:
        by_storage.setdefault(storage_of(path), []).append(path)
    found: list[Laid] = []
    for storage, files in by_storage.items():
        begin(storage)
        whole = [f for f in files if size(f) and not is_sparse(f)]
        speed = measure(max(whole, key=size), limit) if whole else None
        found.append(Laid(storage, tuple(files), sum(map(size, files)), speed))
    return found


def read_seconds(laid: list[Laid]) -> float | None:
    """None if a storage could not be measured."""
    seconds = [part.seconds for part in laid]
    return sum(s for s in seconds if s is not None) if laid and None not in seconds else None


def _json(
    found: Survey, laid: list[Laid], here: Machine, advice: list[Advice], dtypes: dict[Path, dict[str, int]]
) -> dict[str, Any]:
    told = survey_json(found)
    on = {path: part.storage.kind for part in laid for path in part.files}
    for call, row in zip(found.plan.calls, told["models"], strict=True):
        for file, cell in zip(call.files, row["files"], strict=True):
            cell |= {"storage": on[file.path], "dtypes": dtypes.get(file.path)}
    seconds = read_seconds(laid)
    return {
        **told,
        "storage": [_laid_json(part) for part in laid],
        "expected": {"read_seconds": None if seconds is None else round(seconds, 3), "formula": FORMULA, "note": BESIDE},
        "memory": asdict(here),
        "advice": [asdict(one) for one in advice],
    }


def _laid_json(part: Laid) -> dict[str, Any]:
    speed = part.speed
    return {
        "kind": part.storage.kind,
        "mount": part.storage.mount,
        "filesystem": part.storage.filesystem,
        "files": len(part.files),
        "bytes": part.bytes,
        "speed": {
            "bytes_per_second": round(speed.rate),
            "bytes": speed.bytes,
            "seconds": round(speed.seconds, 4),
            "how": speed.how,
        }
        if speed
        else None,
        "read_seconds": None if part.seconds is None else round(part.seconds, 3),
    }


def _show(found: Survey, laid: list[Laid], here: Machine, advice: list[Advice]) -> None:
    on = {path: part.storage.kind for part in laid for path in part.files}
    rows: list[Row] = []
    for call in found.plan.calls:
        state = "problem" if call.problems else found.checked(call)
        named = [(f.name, gigabytes(size(f.path)), on[f.path]) for f in call.files] or [("-", "", "")]
        for number, cells in enumerate(named):
            rows.append((*((call.name, call.loader or "?") if number == 0 else ("", "")), *cells, state if number == 0 else ""))
    if rows:
        table("Models", ("name", "loader", "file", "size", "storage", "checked"), rows, right=(3,))
    else:
        say("nothing to preload")
    if laid:
        table(
            "Storage", ("kind", "mount", "type", "to read", "speed", "takes", "measured"), map(_laid_row, laid), right=(3, 4, 5)
        )
    _show_memory(found, here)
    if advice:
        table(
            "Advice",
            ("model", "file", "saves", ""),
            [(a.model, a.file, gigabytes(a.saves) if a.saves else "-", a.text) for a in advice],
            right=(2,),
        )
    say_findings(found)
    seconds = read_seconds(laid)
    if seconds is not None:
        say(f"\nExpected time to read the files: {seconds:.1f} s ({FORMULA}).\n{BESIDE}")
    say("\nno findings" if found.good else "\nthere are findings")


def _laid_row(part: Laid) -> Row:
    speed = part.speed
    told = (
        (f"{speed.rate / 1e9:.2f} GB/s", f"{part.seconds or 0:.1f} s", f"{gigabytes(speed.bytes)}, {speed.how}")
        if speed
        else None
    )
    cells = told or ("-", "-", "not measured")
    return (part.storage.kind, part.storage.mount, part.storage.filesystem, gigabytes(part.bytes), *cells)


def _show_memory(found: Survey, here: Machine) -> None:
    def told(count: int | None) -> str:
        return "unknown" if count is None else gigabytes(count)

    cgroup = "none found" if here.cgroup is None else gigabytes(here.cgroup)
    say(f"\nOn disk the models have {gigabytes(found.total)}.")
    say(f"RAM {gigabytes(here.ram)}, free {gigabytes(here.available)}; container limit: {cgroup}.")
    say(f"VRAM {told(here.vram)}, free {told(here.vram_free)}.")
