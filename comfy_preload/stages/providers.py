"""Platforms that copy this process and restore it elsewhere, each behind the same three calls.

NVIDIA Dynamo: docs/reference/workload-contract.md of ai-dynamo/snapshot; before that was a project of its
own, the helpers for snapshots in ai-dynamo/dynamo. gVisor: g3doc/user_guide/checkpoint_restore.md,
"Application-Driven Checkpoint/Restore"; GKE's Pod snapshots use the same file.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import threading
from contextlib import suppress
from enum import Enum
from pathlib import Path
from typing import IO, Protocol

from comfy_preload.core.errors import PreloadError, problem
from comfy_preload.core.settings.glance import SnapshotGlance

CONTROL_VARIABLES = ("SNAPSHOT_CONTROL_DIR", "DYN_SNAPSHOT_CONTROL_DIR")
"""Where Dynamo names its control directory; the second until 2026."""
CONTROL_FOLDER = Path("/snapshot-control")
GVISOR = Path("/proc/gvisor/checkpoint")
GVISOR_ENVIRONMENT = Path("/proc/gvisor/spec_environ")
"""The variables of the container that runs now, restored or not."""
READY = ("ready-for-snapshot", "ready-for-checkpoint")
"""Written when this process may be copied; the second for agents until 2026."""
RESTORED = "restore-complete"
RESUMED = "snapshot-complete"


class Result(str, Enum):
    """What a provider answers: the words of gVisor."""

    RESTORE = "restore"
    """This is the restored copy."""
    RESUME = "resume"
    """This is the process that was copied."""
    ERROR = "error"
    """No copy was made."""


class Provider(Protocol):
    """One platform. `answer` is asked ten times a second."""

    name: str
    reason: str
    """Why the answer was ERROR."""

    def clear(self) -> None:
        """Take back what an earlier process of the same container has announced. Never raises."""
        ...

    def announce(self) -> None:
        """Let the platform copy this process now.

        Raises PreloadError: snapshot_stale, snapshot_not_announced.
        """
        ...

    def answer(self) -> Result | None:
        """Return what has happened, or None while nothing has. Never blocks."""
        ...

    def close(self) -> None:
        """Remove what was written. Never raises."""
        ...


class ControlFolder:
    """NVIDIA Dynamo: files in a directory that this process and an agent of the node share."""

    name = "dynamo"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.reason = ""

    def clear(self) -> None:
        self._remove(*READY)

    def announce(self) -> None:
        for name in (RESTORED, RESUMED):
            if os.path.lexists(self._folder / name):
                raise PreloadError(problem("snapshot_stale", found=name))
        try:
            for name in READY:
                _write(self._folder / name)
        except OSError as error:
            self.close()
            raise _not_announced(self.name, error) from error

    def answer(self) -> Result | None:
        if os.path.lexists(self._folder / RESTORED):
            return Result.RESTORE
        return Result.RESUME if os.path.lexists(self._folder / RESUMED) else None

    def close(self) -> None:
        self._remove(*READY, RESTORED, RESUMED)

    def _remove(self, *names: str) -> None:
        for name in names:
            with suppress(OSError):
                (self._folder / name).unlink(missing_ok=True)


class File:
    """Any other platform: it answers by writing a word into a file, or by removing it."""

    name = "file"

    def __init__(self, path: Path) -> None:
        self._path = path
        self.reason = "it wrote 'error'"

    def clear(self) -> None:
        if self._word() is None:
            self.close()

    def announce(self) -> None:
        if found := self._word():
            raise PreloadError(problem("snapshot_stale", found=found.value))
        try:
            _write(self._path)
        except OSError as error:
            raise _not_announced(self.name, error) from error

    def answer(self) -> Result | None:
        """A file that is gone means RESTORE: what follows does no harm to the process that was copied."""
        return self._word() if os.path.lexists(self._path) else Result.RESTORE

    def _word(self) -> Result | None:
        try:
            word = self._path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeError):
            return None
        return Result(word) if word in tuple(Result) else None

    def close(self) -> None:
        with suppress(OSError):
            self._path.unlink(missing_ok=True)


class GVisor:
    """gVisor, and so GKE: a file whose read returns once the copy was made, in both processes.

    A thread reads it, since nothing interrupts that read. It is left behind if no answer comes.
    """

    name = "gvisor"

    def __init__(self, path: Path = GVISOR) -> None:
        self._path = path
        self._answer: Result | None = None
        self.reason = "it answered 'error'"

    def clear(self) -> None:
        pass

    def announce(self) -> None:
        try:
            handle = os.open(self._path, os.O_RDWR | getattr(os, "O_NOCTTY", 0))
        except OSError as error:
            raise _not_announced(self.name, error) from error
        threading.Thread(target=self._run, args=(handle,), name="preload-snapshot", daemon=True).start()

    def answer(self) -> Result | None:
        return self._answer

    def close(self) -> None:
        pass

    def _run(self, handle: int) -> None:
        try:
            os.write(handle, b"1\n")
            word = os.read(handle, 64).decode(errors="replace").strip()
            self._answer = Result(word)
        except OSError as error:
            self.reason = error.strerror or type(error).__name__
            self._answer = Result.ERROR
        except ValueError:
            self.reason = "it answered with another word than resume, restore and error"
            self._answer = Result.ERROR
        finally:
            os.close(handle)


class Command:
    """Any other platform: a command that ends when the copy was made, and whose last word is the answer."""

    name = "command"

    def __init__(self, words: tuple[str, ...]) -> None:
        self._words = words
        self._process: subprocess.Popen[bytes] | None = None
        self._output: IO[bytes] | None = None
        self.reason = ""

    def clear(self) -> None:
        pass

    def announce(self) -> None:
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 — closed by `close`
        try:
            self._process = subprocess.Popen(  # noqa: S603 — the settings file's own command
                self._words,
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                env=dict(os.environ),  # a copy, as in startup_reader.py
            )
        except OSError as error:
            self.close()
            raise _not_announced(self.name, error) from error

    def answer(self) -> Result | None:
        if self._process is None or self._output is None or self._process.poll() is None:
            return None
        self._output.seek(0)
        words = self._output.read().decode(errors="replace").split()
        word = words[-1] if words else ""
        if self._process.returncode:
            self.reason = f"exit status {self._process.returncode}"
        elif word in tuple(Result):
            self.reason = "it printed 'error'"
            return Result(word)
        else:
            self.reason = "its last word is none of restore, resume and error"
        return Result.ERROR

    def close(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        if self._output is not None:
            self._output.close()


def provider_of(options: SnapshotGlance) -> Provider | None:
    """Return the provider of the settings, or with `auto` the one that is here; None if there is none."""
    path = Path(options.path) if options.path else None
    named = next((value for name in CONTROL_VARIABLES if (value := os.environ.get(name))), None)
    if options.provider == "command":
        return Command(options.command) if options.command else None
    if options.provider == "file":
        return File(path) if path else None
    if options.provider == "gvisor":
        return GVisor(path or GVISOR)
    if options.provider == "dynamo":
        return ControlFolder(path or (Path(named) if named else CONTROL_FOLDER))
    if named:
        return ControlFolder(Path(named))
    return GVisor() if os.access(GVISOR, os.W_OK) else None


def _write(path: Path) -> None:
    """All or nothing: a file that is there counts, whatever is in it."""
    half = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        half.write_text("ready\n", encoding="utf-8")
        half.replace(path)
    except OSError:
        with suppress(OSError):
            half.unlink(missing_ok=True)
        raise


def _not_announced(provider: str, error: OSError) -> PreloadError:
    reason = error.strerror or type(error).__name__
    return PreloadError(problem("snapshot_not_announced", provider=provider, reason=reason))
