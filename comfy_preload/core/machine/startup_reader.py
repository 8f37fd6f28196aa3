"""Reads what ComfyUI's imports are about to read, in a process beside them: see `startup_record.py`.

    python -I -S startup_reader.py FOLDER TORCH VERSIONS BUDGET READERS RECORD [RECORD …]

A thread in ComfyUI's own process would wait for the interpreter's lock before each of some ten thousand small
files, and the imports would wait for it. The process prints one line of JSON: which record it read and how
much, or why it read none.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from comfy_preload.core.machine.startup_record import StartupRecord

CHUNK = 16 << 20
"""Bytes sent at once."""

STEP = 128 << 10
"""Bytes asked for at once; of more the kernel may read the beginning only (mm/readahead.c, Linux 6.18)."""

Part = tuple[str, int, int]
"""(path, first byte, byte behind the last)."""


class StartupReader:
    """The process that reads a record ahead. Linux only: elsewhere `start` does nothing."""

    def __init__(self) -> None:
        self._process: Any = None

    def start(
        self,
        records: Sequence[Path],
        *,
        torch: Path,
        made_for: Mapping[str, str],
        budget: int,
        readers: int,
    ) -> None:
        """Begin. Returns at once; raises OSError if no process can be started.

        Args:
            records: Files to look for a record in; the first that fits is read, else what is guessed.
            torch: The folder of the package, for guessing.
            made_for: What a record must have been made for (`startup_record.versions`).
            budget: Bytes that may be read at all.
            readers: Threads that read.
        """
        if not hasattr(os, "sendfile") or sys.platform != "linux":
            return
        import subprocess

        folder = Path(__file__).resolve().parents[3]
        about = (torch, json.dumps(dict(made_for)), str(budget), str(readers))
        command = [sys.executable, "-I", "-S", __file__, folder, *about, *records]
        self._process = subprocess.Popen(  # noqa: S603 — our own script
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            # A copy: exec fails (EFAULT) if another thread sets a variable meanwhile, as main.py does.
            env=dict(os.environ),
        )

    def wait(self) -> dict[str, Any] | None:
        """Wait until it has read everything or was stopped. Return what it printed, or None."""
        if self._process is None:
            return None
        said, _ = self._process.communicate()
        try:
            answer: dict[str, Any] = json.loads(said)
        except ValueError:
            return None
        return answer

    def stop(self) -> None:
        """End it: the imports are over."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()


def main(words: Sequence[str]) -> None:
    """Read the first record that fits."""
    folder, torch, made_for, budget, readers, *names = words
    sys.path.insert(0, folder)
    from comfy_preload.core.machine.startup_record import RecordError, read

    here = json.loads(made_for)
    reasons: dict[str, str] = {}
    for name in names:
        try:
            record = read(Path(name))
        except RecordError as wrong:
            reasons[name] = str(wrong)
            continue
        if record.made_for != here:
            reasons[name] = "it was made for another Python, torch or ComfyUI"
            continue
        break
    else:
        from comfy_preload.core.machine.startup_guess import guess

        name, record = "", guess(Path(torch))
    began = time.monotonic()
    done = _read_all(list(_parts(record, int(budget))), int(readers))
    seconds = round(time.monotonic() - began, 3)
    _print(record=name, reasons=reasons, bytes=done, files=len(record.files), seconds=seconds)


def _print(**answer: Any) -> None:
    print(json.dumps(answer))  # noqa: T201 — the answer


def _parts(record: StartupRecord, budget: int) -> Iterator[Part]:
    """The parts of each file, in order, until the budget is used up."""
    for path, ranges in record.files.items():
        for first, last in ranges:
            budget -= last - first
            if budget < 0:
                return
            yield path, first, last


def _read_all(parts: Sequence[Part], readers: int) -> int:
    """Let each reader take the next part. Return the bytes read."""
    todo = iter(parts)
    lock = threading.Lock()
    total = [0] * readers

    def work(index: int) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        while True:
            with lock:
                part = next(todo, None)
            if part is None:
                return
            total[index] += _read_part(part, nowhere)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(readers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(total)


def _read_part(part: Part, nowhere: int) -> int:
    """Send one part to /dev/null: nothing is copied.

    Return how many bytes there were; 0 for what is not a file.
    """
    path, first, last = part
    at = first
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            for ask in range(first, last, STEP):  # else sendfile has the kernel read far beyond each part
                os.posix_fadvise(handle, ask, min(STEP, last - ask), os.POSIX_FADV_WILLNEED)
            while at < last and (count := os.sendfile(nowhere, handle, at, min(CHUNK, last - at))):
                at += count
        finally:
            os.close(handle)
    except OSError:
        pass  # it is gone, or is not a file: ComfyUI finds out if it matters
    return at - first


if __name__ == "__main__":
    main(sys.argv[1:])
