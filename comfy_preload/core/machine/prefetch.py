"""Reads model files into the page cache while Python imports torch.

Started by `prestartup_script.py`, before torch is imported; loading waits for the file it needs and
for no other. A file that cannot be read is left out with one line in the log, and loading reads it
the normal way.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import stat
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from comfy_preload.core.log import log
from comfy_preload.core.machine.disk_waits import DiskWaits
from comfy_preload.core.machine.page_cache import CHUNK, OPEN_FLAGS, uncached
from comfy_preload.core.text import gigabytes

MAX_READERS = 4
TRIAL = 256 << 20
"""Bytes that `auto` reads with one reader, then twice as many with four, to keep the faster way.

It begins once loading waits: while ComfyUI imports, more readers only slow its imports down.
"""
GAIN = 1.15
"""The factor by which four readers must be faster to be kept."""
PIECE = 256 << 10
"""Bytes to read before it looks again whether ComfyUI's imports wait for the disk."""
QUIET = 0.002
"""Seconds without a wait of theirs after which it reads on."""
STALL_TIMEOUT = 5.0
"""Seconds without a byte read after which loading stops waiting: a stopped mount, for example."""


@dataclass
class _File:
    path: Path
    size: int = 0
    chunks_left: int = 0
    done: threading.Event = field(default_factory=threading.Event)
    """Set when it was read to its end, or given up."""


@dataclass(frozen=True)
class PrefetchProgress:
    """How far it got. `cached`: bytes that the page cache had already, contained in `bytes`."""

    bytes: int
    bytes_total: int
    cached: int
    seconds: float
    readers: int
    running: bool

    @property
    def rate(self) -> float:
        """Bytes a second that came from the storage."""
        return (self.bytes - self.cached) / self.seconds if self.seconds else 0.0


class Prefetch:
    """One pass over some files, in their order, by daemon threads."""

    def __init__(self, paths: Sequence[Path], *, budget: int, readers: int | None = None) -> None:
        """`budget`: bytes that may be read at all. `readers`: None measures and decides."""
        self._files = {path: _File(path) for path in dict.fromkeys(paths)}
        self._budget = budget
        self._stopped = False
        self._wanted = readers or 1
        self._trial: list[tuple[float, int]] | None = [] if readers is None else None
        """Where `auto` started to measure: (time, bytes from storage). None: nothing to find out."""
        self._gives_way = True
        self._awaited = False
        """Loading waits for a file."""
        self._todo: deque[tuple[_File, int]] = deque()
        self._lock = threading.Lock()
        self._read = self._cached = self._total = self._running = 0
        self._began = self._ended = 0.0
        self._last_byte = time.monotonic()

    def start(self, *, give_way: bool = True) -> None:
        """Begin. Returns at once. `give_way`: what ComfyUI's imports read goes first."""
        self._gives_way = give_way
        self._began = self._last_byte = time.monotonic()
        self._spawn(self._survey)

    def stop(self) -> None:
        """Read no further chunk. `wait` returns."""
        self._stopped = True
        for file in self._files.values():
            file.done.set()

    def wait(self, paths: Iterable[Path]) -> float:
        """Wait until these files are in the page cache or given up. Return the seconds it took."""
        began = time.monotonic()
        for path in paths:
            file = self._files.get(path)
            while file is not None and not file.done.wait(0.1):
                self._awaited = True
                if time.monotonic() - self._last_byte > STALL_TIMEOUT:
                    log.warning(
                        "prefetch: no data for %.0f s; loading continues without prefetch", STALL_TIMEOUT
                    )
                    self.stop()
        return time.monotonic() - began

    def progress(self) -> PrefetchProgress:
        """Takes no lock."""
        end = self._ended or time.monotonic()
        seconds = end - self._began if self._began else 0.0
        running = bool(self._began) and not self._ended
        return PrefetchProgress(self._read, self._total, self._cached, seconds, self._wanted, running)

    # -- in the readers ---------------------------------------------------------------------------

    def _spawn(self, work: Callable[[], None]) -> None:
        self._running += 1
        threading.Thread(target=self._end, args=(work,), name="preload-prefetch", daemon=True).start()

    def _end(self, work: Callable[[], None]) -> None:
        try:
            work()
        finally:
            with self._lock:
                self._running -= 1
                last = not self._running
            if last:
                self._ended = time.monotonic()
                self.stop()
                now = self.progress()
                log.info(
                    "prefetched %s in %.2f s (%.2f GB/s); %s already cached",
                    gigabytes(now.bytes - now.cached),
                    now.seconds,
                    now.rate / 1e9,
                    gigabytes(now.cached),
                )

    def _survey(self) -> None:
        """Look at all files, then read: the first thread."""
        for file in self._files.values():
            try:
                missing = self._measure(file)
            except (OSError, ValueError) as error:
                self._leave_out(file, error)
                continue
            file.chunks_left = len(missing)
            self._todo.extend((file, offset) for offset in missing)
            if not missing:
                file.done.set()
        for index in range(1, self._wanted):
            self._spawn(functools.partial(self._reader, index))
        self._reader(0)

    def _measure(self, file: _File) -> list[int]:
        """Which chunks have to be read. Raises ValueError or OSError if the file is not worth it."""
        status = file.path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("it is not a regular file")
        if status.st_size > self._budget:
            raise ValueError(f"{gigabytes(status.st_size)}, with room for {gigabytes(self._budget)}")
        file.size = status.st_size
        self._budget -= file.size
        missing = uncached(file.path, file.size)
        cached = file.size - sum(min(CHUNK, file.size - offset) for offset in missing)
        self._total += file.size
        self._cached += cached
        self._read += cached
        return missing

    def _leave_out(self, file: _File, error: Exception) -> None:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        log.warning("prefetch: %s is left out: %s", file.path.name, reason)
        file.done.set()

    def _reader(self, index: int) -> None:
        file: _File | None = None
        handle = -1
        nowhere = os.open(os.devnull, os.O_WRONLY)
        importing = DiskWaits(threading.main_thread().native_id)
        try:
            while index < self._wanted and self._todo and not self._stopped:
                try:
                    (wanted, offset) = self._todo.popleft()
                except IndexError:  # another reader took the last one
                    break
                if wanted.done.is_set():
                    continue
                try:
                    if wanted is not file:
                        if handle >= 0:
                            os.close(handle)
                        handle, file = -1, wanted
                        handle = os.open(file.path, OPEN_FLAGS)
                    self._count(wanted, self._chunk(wanted, handle, offset, nowhere, importing))
                except OSError as error:
                    self._leave_out(wanted, error)
        finally:
            importing.close()
            os.close(nowhere)
            if handle >= 0:
                os.close(handle)

    def _chunk(self, file: _File, handle: int, offset: int, nowhere: int, importing: DiskWaits) -> int:
        """Read a chunk in pieces. Returns how many bytes it turned out to have."""
        end, at = min(offset + CHUNK, file.size), offset
        while at < end and not self._stopped:
            size = CHUNK
            if self._gives_way and not self._awaited:
                self._give_way(importing)
                size = PIECE
            read = _read(handle, min(size, end - at), at, nowhere)
            if not read:
                break  # it was cut shorter since
            at += read
        return at - offset

    def _give_way(self, importing: DiskWaits) -> None:
        """Let what ComfyUI's imports read go first, until loading waits for a model.

        The start cannot go on without it, and on a disk slower than the imports each read of theirs would
        wait behind those of the models (docs/performance.md).
        """
        while not (self._awaited or self._stopped) and importing.since_last_call():
            time.sleep(QUIET)
            self._last_byte = time.monotonic()  # the storage did not stop

    def _count(self, file: _File, read: int) -> None:
        with self._lock:
            self._read += read
            self._last_byte = time.monotonic()
            file.chunks_left -= 1
            if not file.chunks_left:
                file.done.set()
            if self._trial is not None and self._awaited:
                self._decide(self._trial)

    def _decide(self, trial: list[tuple[float, int]]) -> None:
        """`auto`: is it faster with more readers?"""
        now = (self._last_byte, self._read - self._cached)
        if not trial:
            trial.append(now if now[1] else (self._began, 0))
        elif len(trial) == 1 and now[1] - trial[0][1] >= TRIAL:
            trial.append(now)
            self._wanted = MAX_READERS
            for index in range(1, MAX_READERS):
                self._spawn(functools.partial(self._reader, index))
        elif len(trial) == 2 and now[1] - trial[1][1] >= 2 * TRIAL:
            alone, together = (_rate(*pair) for pair in itertools.pairwise([*trial, now]))
            if together < GAIN * alone:
                self._wanted = 1
            self._trial = None


def _rate(before: tuple[float, int], after: tuple[float, int]) -> float:
    return (after[1] - before[1]) / max(after[0] - before[0], 1e-6)


def _read(handle: int, size: int, offset: int, nowhere: int) -> int:
    """Have a chunk of an open file in the page cache. Returns how many bytes it turned out to have.

    On Linux the bytes are sent to /dev/null (`nowhere`), which copies none of them: reading them instead
    costs a processor that ComfyUI's imports need (docs/performance.md). Where that does not work, in some
    sandboxes say, they are read.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # whatever is wrong with the file, reading it will say so
            return _send(handle, size, offset, nowhere)
    os.lseek(handle, offset, os.SEEK_SET)
    return len(os.read(handle, size))


def _send(handle: int, size: int, offset: int, nowhere: int) -> int:
    done = 0
    while done < size:
        count = os.sendfile(nowhere, handle, offset + done, size - done)
        if not count:
            break  # it was cut shorter since
        done += count
    return done
