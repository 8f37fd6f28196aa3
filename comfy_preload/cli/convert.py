"""`convert IN OUT --dtype fp16|bf16`.

A safetensors file again, with its fp32 and fp64 weights in half the bytes.

Goes through the file in blocks, so that neither the file nor its largest tensor has to fit into memory; with
NumPy, because importing torch alone takes half a gigabyte. OUT appears under its name when it is whole and on
the disk, or not at all.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import numpy as np
from numpy.typing import NDArray

from comfy_preload.cli.output import progress, say, say_json
from comfy_preload.core.errors import PreloadError, problem
from comfy_preload.core.loader_table import PICKLES, SAFETENSORS
from comfy_preload.core.planning.safetensors import BITS, Header, Tensor, read_header
from comfy_preload.core.text import gigabytes

NUMBERS = 1 << 18
"""Numbers converted at a time: few enough for the processor's cache."""
_LARGER = {"F32": np.dtype("<f4"), "F64": np.dtype("<f8")}
_TARGETS = {"fp16": "F16", "bf16": "BF16"}
_SHOWN = {"F16": "fp16", "BF16": "bf16"}
_LARGEST = {"F16": 65504.0, "BF16": 3.3895313892515355e38}
_QUANTISED = ("F8", "F6", "F4", "I8", "U8")


@dataclass
class Outcome:
    """What was done. `overflows`: tensor -> numbers that were finite and are too large for the new type."""

    converted: int = 0
    kept: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    overflows: dict[str, int] = field(default_factory=dict[str, int])


def run(options: argparse.Namespace) -> int:
    """Raises PreloadError for everything that keeps OUT from being written."""
    began = time.perf_counter()
    header = _inspect(options.input)
    _refuse(options.input, options.output, force=options.force)
    with _terminated_like_interrupted():
        outcome = convert(
            options.input,
            options.output,
            header,
            _TARGETS[options.dtype],
            clamp=options.clamp,
            force=options.force,
        )
    seconds = time.perf_counter() - began
    if options.json:
        say_json({"dtype": options.dtype, "seconds": round(seconds, 3), **vars(outcome)})
        return 0
    for name, count in outcome.overflows.items():
        say(f"clamped: {count} of {name}")
    say(
        f"{options.output.name}: {gigabytes(outcome.bytes_in)} -> {gigabytes(outcome.bytes_out)}, "
        f"{outcome.converted} tensors "
        f"to {options.dtype}, {outcome.kept} as they were, {seconds:.1f} s"
    )
    return 0


def _inspect(source: Path) -> Header:
    if not source.name.lower().endswith(SAFETENSORS):
        pickled = source.name.lower().endswith(PICKLES)
        hint = (
            "Load it where its code may run, and save it as safetensors first."
            if pickled
            else "Name a .safetensors file."
        )
        found = "may be a pickle with code in it" if pickled else "is not named .safetensors"
        raise PreloadError(problem("convert_input", file=source.name, found=found, suggestion=hint))
    return read_header(source, source.name)


def _refuse(source: Path, target: Path, *, force: bool) -> None:
    part = _part(target)
    if target.exists() and target.samefile(source):
        found, hint = "is the input", "Choose another name; rename afterwards."
    elif target.is_dir() or (target.exists() and not force):
        found, hint = "exists already", "Choose another name, or --force to replace it."
    elif part.exists() and not force:
        found, hint = (
            f"is being written, or was abandoned: {part.name} exists",
            "Remove that file, or --force to replace it.",
        )
    else:
        return
    raise PreloadError(problem("output_refused", file=target.name, found=found, suggestion=hint))


def _part(target: Path) -> Path:
    return target.with_name(f"{target.name}.part")


def convert(
    source: Path, target: Path, header: Header, dtype: str, *, clamp: bool, force: bool = False
) -> Outcome:
    """Write `target` beside itself, then give it its name.

    Raises PreloadError: convert_overflow, output_failed.
    """
    part = _part(target)
    try:
        if force:
            part.unlink(missing_ok=True)
        with source.open("rb") as reads, part.open("xb") as writes:
            try:
                outcome = _stream(reads, writes, header, dtype, clamp=clamp)
                if outcome.overflows and not clamp:
                    _overflowed(source, dtype, outcome.overflows)
                writes.flush()
                os.fsync(writes.fileno())
                part.replace(target)
            except BaseException:
                part.unlink(missing_ok=True)
                raise
        _sync(target.parent)
    except OSError as error:
        raise PreloadError(
            problem("output_failed", file=target.name, reason=error.strerror or str(error))
        ) from error
    return outcome


def _stream(reads: BinaryIO, writes: BinaryIO, header: Header, dtype: str, *, clamp: bool) -> Outcome:
    """The new header, then every tensor's data in the order that the header gives."""
    planned = _planned(header, dtype)
    writes.write(_packed(header, planned))
    outcome = Outcome()
    total = max((t.end for t in header.tensors), default=0)
    for old, new in sorted(planned, key=lambda pair: pair[1].begin):
        reads.seek(header.start + old.begin)
        if old.dtype == new.dtype:
            outcome.kept += 1
            writes.writelines(_blocks(reads, old.bytes, 4 * NUMBERS))
        else:
            outcome.converted += 1
            source = _LARGER[old.dtype]
            for block in _blocks(reads, old.bytes, source.itemsize * NUMBERS):
                data, lost = _narrow(np.frombuffer(block, source), dtype, clamp=clamp)
                writes.write(data)
                if lost:
                    outcome.overflows[old.name] = outcome.overflows.get(old.name, 0) + lost
        outcome.bytes_in += old.bytes
        progress(f"{outcome.bytes_in / total:.0%} of {gigabytes(total)}" if outcome.bytes_in < total else "")
    outcome.bytes_in, outcome.bytes_out = header.start + total, writes.tell()
    return outcome


def _planned(header: Header, dtype: str) -> list[tuple[Tensor, Tensor]]:
    """Each tensor with what becomes of it, in the header's order.

    Wide numbers stand first, so that all are aligned.
    """
    quantised = any(t.dtype.startswith(_QUANTISED) for t in header.tensors)
    pairs = [(t, replace(t, dtype=_becomes(t, dtype, quantised=quantised))) for t in header.tensors]
    ends: dict[str, tuple[int, int]] = {}
    position = 0
    for old, new in sorted(pairs, key=lambda pair: (-BITS.get(pair[1].dtype, 0), pair[0].begin)):
        size = old.bytes if new.dtype == old.dtype else new.numbers * BITS[dtype] // 8
        ends[new.name] = position, position + size
        position += size
    return [(old, replace(new, begin=ends[new.name][0], end=ends[new.name][1])) for old, new in pairs]


def _becomes(tensor: Tensor, dtype: str, *, quantised: bool) -> str:
    """Only fp32 and fp64 shrink.

    Single numbers, and the scales of fp8 weights, need all their digits and cost nothing.
    """
    scale = quantised and "scale" in tensor.name.rpartition(".")[2]
    return dtype if tensor.dtype in _LARGER and tensor.numbers != 1 and not scale else tensor.dtype


def _packed(header: Header, planned: list[tuple[Tensor, Tensor]]) -> bytes:
    table: dict[str, Any] = {} if header.metadata is None else {"__metadata__": header.metadata}
    for _, new in planned:
        table[new.name] = {"dtype": new.dtype, "shape": new.shape, "data_offsets": [new.begin, new.end]}
    text = json.dumps(table, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # the format requires tensors aligned to 8 bytes
    return len(text).to_bytes(8, "little") + text


def _blocks(stream: BinaryIO, count: int, limit: int) -> Iterator[bytes]:
    while count:
        block = stream.read(min(count, limit))
        if not block:
            raise OSError("the input became shorter while it was read")
        count -= len(block)
        yield block


def _narrow(numbers: NDArray[Any], dtype: str, *, clamp: bool) -> tuple[bytes, int]:
    """Rounded to nearest, ties to even, as torch does.

    And how many finite numbers became infinite, or would have.
    """
    narrow = _half if dtype == "F16" else _brain
    made, infinite = narrow(numbers)
    lost = int(np.count_nonzero(infinite & np.isfinite(numbers))) if infinite.any() else 0
    if lost and clamp:
        cut = np.clip(numbers, -_LARGEST[dtype], _LARGEST[dtype])
        made, _ = narrow(np.where(np.isfinite(numbers), cut, numbers))
    return made.tobytes(), lost


def _half(numbers: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        made = numbers.astype("<f2")
    return made, np.isinf(made)


def _brain(numbers: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """bfloat16, which NumPy lacks: the upper half of an fp32."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        wide = numbers.astype("<f4")
    bits = wide.view("<u4")
    made = ((bits + (0x7FFF + ((bits >> 16) & 1))) >> 16).astype("<u2")
    made[np.isnan(wide)] = 0x7FC0
    return made, (made & 0x7FFF) == 0x7F80


def _overflowed(source: Path, dtype: str, overflows: dict[str, int]) -> NoReturn:
    worst = sorted(overflows.items(), key=lambda item: -item[1])
    listed = ", ".join(f"{name} ({count})" for name, count in worst[:5]) + (", …" if len(worst) > 5 else "")
    raise PreloadError(
        problem(
            "convert_overflow",
            file=source.name,
            found=sum(overflows.values()),
            dtype=_SHOWN[dtype],
            tensors=listed,
        )
    )


def _sync(folder: Path) -> None:
    """So that the new name outlives a power cut. Windows cannot, and need not, open a folder."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """SIGTERM raises too, so that what was begun is removed."""

    def end(_number: int, _frame: object) -> NoReturn:
        raise SystemExit(143)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
