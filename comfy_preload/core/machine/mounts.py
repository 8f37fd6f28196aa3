"""Mounted file systems: which one a file is in, and whether it is reached over a network.

Linux only; elsewhere none is known.

Format of mountinfo: https://man7.org/linux/man-pages/man5/proc_pid_mountinfo.5.html
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MOUNTINFO = Path("/proc/self/mountinfo")
_NETWORK = re.compile(
    r"(nfs|cifs|smb|ceph|lustre|beegfs|glusterfs|gpfs|afs|9p|virtiofs|wekafs|ocfs2|vboxsf|drvfs)"
    r"|fuse($|\.(?!(ext|ntfs|exfat|zfs|unionfs|mergerfs)))"
)
"""Start of a file system's type.

Reached over a network, or through the host of a virtual machine; FUSE mostly is.
"""


@dataclass(frozen=True)
class Mount:
    """One line of mountinfo."""

    point: str
    """Where it is mounted."""
    device: str
    """major:minor."""
    filesystem: str
    """Its type: ext4, nfs4, fuse.juicefs, …"""

    @property
    def is_network(self) -> bool:
        return _NETWORK.match(self.filesystem) is not None


def mount_of(path: Path, table: Path = MOUNTINFO) -> Mount | None:
    """Return the mount that holds the file, links followed; None where that is unknown."""
    real = path.resolve()
    best: Mount | None = None
    for mount in _mounts(table):
        # of two at the same place the last one covers the other
        if real.is_relative_to(mount.point) and (best is None or len(mount.point) >= len(best.point)):
            best = mount
    return best


def keeps_inodes(device: int, table: Path = MOUNTINFO) -> bool:
    """Return whether files on this device (`st_dev`) have the same inode number for as long as they exist.

    Network and FUSE file systems may number them again when their cache is dropped: rclone does after five
    minutes.
    """
    name = f"{os.major(device)}:{os.minor(device)}" if hasattr(os, "major") else ""
    return not any(mount.is_network for mount in _mounts(table) if mount.device == name)


def _mounts(table: Path) -> Iterator[Mount]:
    try:
        lines = table.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return
    for line in lines:
        fields = line.split(" ")
        if "-" in fields[6:]:
            point = re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), fields[4])
            yield Mount(point, fields[2], fields[fields.index("-", 6) + 1])
