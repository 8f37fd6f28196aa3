"""`check`: the settings, the files, the storage and the memory, before ComfyUI is started."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from comfy_preload.cli import machine
from comfy_preload.cli.advice import Advice, advise, headers
from comfy_preload.cli.inspection import Survey, say_findings, size, survey, survey_json
from comfy_preload.cli.machine import Machine
from comfy_preload.cli.output import Row, progress, say, say_json, table
from comfy_preload.cli.storage import Speed, Storage, is_sparse, measure, storage_of
from comfy_preload.core.text import gigabytes

FORMULA = (
    "the longer of reading (bytes / measured speed, storage after storage) and ComfyUI's own start, "
    "then copying"
)
BESIDE = "Building modules, moving to a GPU and warm-ups come on top: see 'seconds' in /preload."


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


@dataclass(frozen=True)
class Expected:
    """Seconds, as far as they can be estimated beforehand. None where it was not measured."""

    read: float | None
    start: float
    """ComfyUI's own: given by the user, not measured."""
    copy: float | None

    @property
    def ready(self) -> float | None:
        """Files are read while ComfyUI imports; models are built after both."""
        return None if self.read is None or self.copy is None else max(self.read, self.start) + self.copy


@dataclass(frozen=True)
class Report:
    """All that was looked at."""

    found: Survey
    laid: list[Laid]
    here: Machine
    advice: list[Advice]
    expected: Expected


def run(options: argparse.Namespace) -> int:
    """Exit code 1 if anything is wrong; advice alone is not."""
    found = survey(options)
    laid = lay(
        found.paths, int(options.read * 1e6), lambda at: progress(f"reading from {at.mount or 'storage'}")
    )
    progress("")
    known = headers(found.plan.calls)
    advice = list(advise(found.plan.calls, known, found.loaders))
    copy = found.total / machine.copy_rate() if options.read else None
    report = Report(found, laid, machine.look(), advice, Expected(read_seconds(laid), options.imports, copy))
    if options.json:
        say_json(_json(report, {path: header.dtypes() for path, header in known.items()}))
    else:
        _show(report)
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


def _json(report: Report, dtypes: dict[Path, dict[str, int]]) -> dict[str, Any]:
    found, laid, expected = report.found, report.laid, report.expected
    survey = survey_json(found)
    on = {path: part.storage.kind for part in laid for path in part.files}
    for call, row in zip(found.plan.calls, survey["models"], strict=True):
        for file, cell in zip(call.files, row["files"], strict=True):
            cell |= {"storage": on[file.path], "dtypes": dtypes.get(file.path)}
    return {
        **survey,
        "storage": [_laid_json(part) for part in laid],
        "expected": {
            "read_seconds": _rounded(expected.read),
            "import_seconds": expected.start,
            "copy_seconds": _rounded(expected.copy),
            "ready_seconds": _rounded(expected.ready),
            "formula": FORMULA,
            "note": BESIDE,
        },
        "memory": asdict(report.here),
        "advice": [asdict(one) for one in report.advice],
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
        "read_seconds": _rounded(part.seconds),
    }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def _show(report: Report) -> None:
    found, laid, advice = report.found, report.laid, report.advice
    on = {path: part.storage.kind for part in laid for path in part.files}
    rows: list[Row] = []
    for call in found.plan.calls:
        state = "problem" if call.problems else found.checked(call)
        named = [(f.name, gigabytes(size(f.path)), on[f.path]) for f in call.files] or [("-", "", "")]
        for number, cells in enumerate(named):
            rows.append(
                (
                    *((call.name, call.entry.loader or "?") if number == 0 else ("", "")),
                    *cells,
                    state if number == 0 else "",
                )
            )
    if rows:
        table("Models", ("name", "loader", "file", "size", "storage", "checked"), rows, right=(3,))
    else:
        say("nothing to preload")
    if laid:
        table(
            "Storage",
            ("kind", "mount", "type", "to read", "speed", "takes", "measured"),
            map(_laid_row, laid),
            right=(3, 4, 5),
        )
    _show_memory(found, report.here)
    if advice:
        table(
            "Advice",
            ("model", "file", "saves", ""),
            [(a.model, a.file, gigabytes(a.saves) if a.saves else "-", a.text) for a in advice],
            right=(2,),
        )
    say_findings(found)
    _show_expected(report.expected)
    say("\nno findings" if found.good else "\nthere are findings")


def _show_expected(expected: Expected) -> None:
    read, start, copy, ready = expected.read, expected.start, expected.copy, expected.ready
    if ready is None:
        return
    say(f"\nExpected time to ready: {ready:.1f} s: {FORMULA}.")
    say(
        f"Reading {read:.1f} s, ComfyUI's own start {start:.1f} s (--imports), copying {copy:.1f} s. {BESIDE}"
    )


def _laid_row(part: Laid) -> Row:
    speed = part.speed
    answer = (
        (
            f"{speed.rate / 1e9:.2f} GB/s",
            f"{part.seconds or 0:.1f} s",
            f"{gigabytes(speed.bytes)}, {speed.how}",
        )
        if speed
        else None
    )
    cells = answer or ("-", "-", "not measured")
    return (part.storage.kind, part.storage.mount, part.storage.filesystem, gigabytes(part.bytes), *cells)


def _show_memory(found: Survey, here: Machine) -> None:
    def shown(count: int | None) -> str:
        return "unknown" if count is None else gigabytes(count)

    cgroup = "none found" if here.cgroup is None else gigabytes(here.cgroup)
    say(f"\nOn disk the models have {gigabytes(found.total)}.")
    say(f"RAM {gigabytes(here.ram)}, free {gigabytes(here.available)}; container limit: {cgroup}.")
    say(f"VRAM {shown(here.vram)}, free {shown(here.vram_free)}.")
