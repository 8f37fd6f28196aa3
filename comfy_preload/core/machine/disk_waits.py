"""Sees whether a thread waits for the disk, from /proc (Linux)."""

from __future__ import annotations

import os


class DiskWaits:
    """The waits of one thread of this process for the disk. `close` it at the end."""

    def __init__(self, thread_id: int | None) -> None:
        """`thread_id`: as the kernel counts threads (`threading.Thread.native_id`)."""
        try:
            self._stat = os.open(f"/proc/self/task/{thread_id}/stat", os.O_RDONLY)
        except OSError:
            self._stat = -1
        self._faults: bytes | None = None

    def since_last_call(self) -> bool:
        """Return whether it waits now, or had to read a page since the last call.

        False where the system does not say: macOS, Windows, some sandboxes.
        """
        if self._stat < 0:
            return False
        try:
            # proc(5): pid (name) state ppid pgrp session tty tpgid flags minflt cminflt majflt …
            fields = os.pread(self._stat, 512, 0).rpartition(b")")[2].split()
            state, faults = fields[0], fields[9]
        except (OSError, IndexError):
            return False
        before, self._faults = self._faults, faults
        return state == b"D" or before not in (None, faults)

    def close(self) -> None:
        """Close its file."""
        if self._stat >= 0:
            os.close(self._stat)
            self._stat = -1
