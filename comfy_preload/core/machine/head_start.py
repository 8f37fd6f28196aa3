"""What begins before torch is imported and is waited for, or ended, by the stages of the preload."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from threading import Thread

from comfy_preload.core.machine.prefetch import Prefetch, PrefetchProgress
from comfy_preload.core.machine.startup_reader import StartupReader


class HeadStart:
    """What this process began at start-up, if anything. Made once, then handed on."""

    def __init__(self) -> None:
        self.prefetch: Prefetch | None = None
        self.libraries: StartupReader | None = None
        self.finder: Thread | None = None
        """Looks for the files and starts the others."""
        self.needs_record = False
        """The libraries are to be read ahead, and there was no record of an earlier start that fits."""

    def end_imports(self) -> None:
        """Stop reading libraries ahead: ComfyUI has imported everything.

        The prefetch of the models goes on.
        """
        if self.libraries:
            self.libraries.stop()

    def progress(self) -> PrefetchProgress | None:
        """How far the prefetch got, or None without one. Takes no lock."""
        return self.prefetch.progress() if self.prefetch else None

    def wait_for(self, paths: Iterable[Path]) -> float | None:
        """Wait until these files are cached or given up.

        Return the seconds it took, or None without a prefetch.
        """
        return self.prefetch.wait(paths) if self.prefetch else None

    def end_prefetch(self) -> None:
        """Read no further chunk: everything is loaded."""
        if self.prefetch:
            self.prefetch.stop()

    def rest(self, limit: float) -> bool:
        """End everything, and wait for at most `limit` seconds until no thread reads any more.

        Return whether none does.
        """
        self.end_imports()
        end = time.monotonic() + limit
        if self.finder:
            self.finder.join(limit)
        self.end_prefetch()
        while self.prefetch and self.prefetch.progress().running and time.monotonic() < end:
            time.sleep(0.01)
        finding = self.finder is not None and self.finder.is_alive()
        return not (finding or (self.prefetch and self.prefetch.progress().running))
