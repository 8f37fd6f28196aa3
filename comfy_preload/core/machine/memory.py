"""How much memory this process may still use: of the machine, and of its cgroup."""

from __future__ import annotations

import contextlib
import ctypes
from pathlib import Path

import psutil

_ROOT = Path("/sys/fs/cgroup")
_SELF = Path("/proc/self/cgroup")


def available(root: Path = _ROOT, membership: Path = _SELF) -> int:
    """Bytes that can be had without swapping or being killed, page cache counted as free.

    The least of the machine's available memory and what each cgroup above this process leaves.
    """
    return min(room for room, _ in _rooms(root, membership))


def share_available(root: Path = _ROOT, membership: Path = _SELF) -> float:
    """The same as a share (0 to 1) of the limit that it is nearest to."""
    return min(room / limit if limit else 1.0 for room, limit in _rooms(root, membership))


def trim() -> None:
    """Give free memory of the C library's heap back to the system, where it can (glibc)."""
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def _rooms(root: Path, membership: Path) -> list[tuple[int, int]]:
    """(room, limit) in bytes: of the machine, and of each cgroup, v2 (`0::/path`) and v1 (`N:memory:/path`)."""
    machine = psutil.virtual_memory()
    rooms = [(machine.available, machine.total)]
    for line in _text(membership).splitlines():
        if line.count(":") < 2:
            continue
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            base, limit, usage = root, "memory.max", "memory.current"
        elif "memory" in controllers.split(","):
            base, limit = root / "memory", "memory.limit_in_bytes"
            usage = "memory.usage_in_bytes"
        else:
            continue
        here = base / path.lstrip("/")
        # inside a container the path may not exist below the mount: the mount is our own group
        for group in [here, *here.parents] if here.is_dir() else [base]:
            if not group.is_relative_to(base):
                break
            maximum = _text(group / limit).strip()
            used = _text(group / usage).strip()
            if maximum.isdigit() and used.isdigit():
                reclaimable = _page_cache(_text(group / "memory.stat"))
                rooms.append((max(0, int(maximum) - int(used) + reclaimable), int(maximum)))
    return rooms


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
