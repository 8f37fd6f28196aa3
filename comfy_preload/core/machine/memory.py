"""How much memory this process may still use: of the machine, and of its cgroup."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

_ROOT = Path("/sys/fs/cgroup")
_SELF = Path("/proc/self/cgroup")
_NO_LIMIT = 1 << 60
"""What cgroup v1 writes where there is no limit is larger than this."""


def available(root: Path = _ROOT, membership: Path = _SELF) -> int:
    """Bytes that can be had without swapping or being killed, page cache counted as free.

    The least of the machine's available memory and what each cgroup above this process leaves.
    """
    return min(room for room, _ in _rooms(root, membership))


def share_available(root: Path = _ROOT, membership: Path = _SELF) -> float:
    """The same, as a share (0 to 1) of the limit that it is nearest to."""
    return min(room / limit if limit else 1.0 for room, limit in _rooms(root, membership))


def trim() -> None:
    """Give free memory of the C library's heap back to the system, where it can (glibc)."""
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def cgroup_limit(root: Path = _ROOT, membership: Path = _SELF) -> int | None:
    """The least memory limit (bytes) from this process's cgroup up to the root; None without one."""
    return min((group.limit for group in _groups(root, membership) if group.limit < _NO_LIMIT), default=None)


@dataclass(frozen=True)
class _Group:
    """A cgroup that has a memory limit."""

    limit: int
    used: int | None
    """None where the kernel does not report it."""
    cached: int
    """Of these bytes, file pages that the kernel can drop."""


def _rooms(root: Path, membership: Path) -> list[tuple[int, int]]:
    """(room, limit) in bytes: of the machine, and of each cgroup above this process."""
    machine = psutil.virtual_memory()
    groups = [(g.limit - g.used + g.cached, g.limit) for g in _groups(root, membership) if g.used is not None]
    return [(machine.available, machine.total), *((max(0, room), limit) for room, limit in groups)]


def _groups(root: Path, membership: Path) -> Iterator[_Group]:
    """Yield this process's cgroups and those above them, v2 (`0::/path`) and v1 (`N:memory:/path`)."""
    for line in _text(membership).splitlines():
        if line.count(":") < 2:
            continue
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            base, limit, usage = root, "memory.max", "memory.current"
        elif "memory" in controllers.split(","):
            base, limit, usage = root / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
        else:
            continue
        here = base / path.lstrip("/")
        # inside a container the path may not exist below the mount: the mount is our own group
        for group in [here, *here.parents] if here.is_dir() else [base]:
            if not group.is_relative_to(base):
                break
            maximum, used = _text(group / limit).strip(), _text(group / usage).strip()
            if maximum.isdigit():
                cached = _page_cache(_text(group / "memory.stat"))
                yield _Group(int(maximum), int(used) if used.isdigit() else None, cached)


def _page_cache(stat: str) -> int:
    """File pages in a memory.stat; v1 counts the groups below under `total_` names as well."""
    pairs = dict(line.split(" ", 1) for line in stat.splitlines() if " " in line)
    prefix = "total_" if "total_inactive_file" in pairs else ""
    return sum(int(pairs.get(f"{prefix}{kind}_file", 0)) for kind in ("inactive", "active"))


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
