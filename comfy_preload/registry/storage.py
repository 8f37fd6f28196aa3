"""Which storage a file is on, so that replicas that share it find each other: by the node's kernel, or by the file server."""

from __future__ import annotations

import hashlib
import os
import socket
from dataclasses import dataclass
from pathlib import Path

_NETWORK = frozenset(
    {
        "9p",
        "afs",
        "beegfs",
        "ceph",
        "cifs",
        "glusterfs",
        "gpfs",
        "lustre",
        "nfs",
        "nfs4",
        "ocfs2",
        "smb3",
        "wekafs",
    }
)
_MOUNTS = Path("/proc/self/mountinfo")
_KERNEL = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Place:
    """The same for every replica that reads this very file. `key` tells neither path nor server."""

    key: str
    network: bool


def place(path: Path) -> Place:
    """Raises OSError. Links are followed."""
    status = path.stat()
    device = (
        f"{os.major(status.st_dev)}:{os.minor(status.st_dev)}" if hasattr(os, "major") else str(status.st_dev)
    )
    kind, source = _mounted(device)
    network = kind in _NETWORK or kind.startswith("fuse.")
    scope = f"{kind} {source}" if network else f"{_kernel()} {device}"
    words = f"{scope} {status.st_ino} {status.st_size}"
    return Place(hashlib.blake2b(words.encode(errors="replace"), digest_size=12).hexdigest(), network)


def _mounted(device: str) -> tuple[str, str]:
    """File system and source: `36 35 98:0 /root /at options - nfs4 server:/export options` (proc(5))."""
    try:
        lines = _MOUNTS.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return "", ""
    for line in lines:
        before, _, after = line.partition(" - ")
        fields = before.split()
        if len(fields) > 2 and fields[2] == device:
            kind, source, *_ = [*after.split(), "", ""]
            return kind, source
    return "", ""


def _kernel() -> str:
    """One for all containers of a node."""
    try:
        return _KERNEL.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return socket.gethostname()
