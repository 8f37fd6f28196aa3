"""What kind of storage a file is on, and how fast it really reads.

Known from /proc and /sys on Linux, else "unknown".
"""

from __future__ import annotations

import mmap
import os
import stat
import time
from dataclasses import dataclass
from pathlib import Path

from comfy_preload.core.machine.mounts import Mount, mount_of

NVME, SSD, ROTATING, VIRTUAL = "NVMe", "SSD", "rotating disk", "virtual disk"
NETWORK, OVERLAY, TMPFS, UNKNOWN = "network", "overlay", "tmpfs", "unknown"

_MEMORY = ("tmpfs", "ramfs")
_VENDORS = ("QEMU", "VMware", "Msft", "VBOX", "Google", "Amazon", "DO")
"""What the disks of virtual machines say their maker is."""
_SLOWEST_LAST = (NVME, SSD, VIRTUAL, UNKNOWN, ROTATING)

BLOCK = 16 << 20
DIRECT, DROPPED, CACHED = "past the page cache", "after dropping it from the page cache", "cached"


@dataclass(frozen=True)
class Storage:
    """One mounted file system."""

    kind: str
    mount: str
    filesystem: str


@dataclass(frozen=True)
class Speed:
    """What reading `bytes` took."""

    bytes: int
    seconds: float
    how: str
    """`cached`: it may not have come from the storage at all."""

    @property
    def rate(self) -> float:
        """Bytes a second."""
        return self.bytes / self.seconds if self.seconds > 0 else 0.0


def storage_of(path: Path, proc: Path = Path("/proc"), sys: Path = Path("/sys")) -> Storage:
    """The file system that the file is in, links followed."""
    mount = mount_of(path, proc / "self" / "mountinfo")
    if mount is None:
        return Storage(UNKNOWN, "", "")
    return Storage(_kind(path.resolve(), mount, sys / "dev" / "block"), mount.point, mount.filesystem)


def _kind(path: Path, mount: Mount, blocks: Path) -> str:
    if mount.filesystem in _MEMORY:
        return TMPFS
    if mount.filesystem == "overlay":
        return OVERLAY
    if mount.is_network:
        return NETWORK
    device = mount.device
    if not (blocks / device).exists():  # btrfs gives each subvolume a number of its own
        try:
            number = path.stat().st_dev
        except OSError:
            return UNKNOWN
        device = f"{os.major(number)}:{os.minor(number)}"
    return _disk((blocks / device).resolve())


def _disk(device: Path) -> str:
    """The kind of a block device; what LVM, encryption and RAID stand on decides, the slowest part of it."""
    if not device.is_dir():
        return UNKNOWN
    if (device / "partition").exists():
        device = device.parent
    try:
        below = sorted((device / "slaves").iterdir())
    except OSError:
        below = []
    if below:
        return max((_disk(part.resolve()) for part in below), key=_SLOWEST_LAST.index)
    if device.name.startswith("nvme"):
        return NVME
    if device.name.startswith(("vd", "xvd")) or _text(device / "device" / "vendor") in _VENDORS:
        return VIRTUAL
    if device.name.startswith(("sd", "hd", "mmcblk")):
        return {"0": SSD, "1": ROTATING}.get(_text(device / "queue" / "rotational"), UNKNOWN)
    return UNKNOWN


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def is_sparse(path: Path) -> bool:
    """Does it have holes? Those are not read from anywhere."""
    blocks = getattr(path.stat(), "st_blocks", None)
    return blocks is not None and blocks * 512 < 0.9 * path.stat().st_size


def measure(path: Path, limit: int) -> Speed | None:
    """Read up to `limit` bytes from the start, from the storage itself where that can be had.

    None: it cannot be read.

    `O_DIRECT` leaves the page cache as it is; without it the part that is read is dropped from the cache
    before.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode) or limit <= 0:
            return None
        try:
            return _read(path, limit, getattr(os, "O_DIRECT", 0), DIRECT)
        except OSError:  # the file system has none, tmpfs for example
            return _read(path, limit, 0, CACHED)
    except OSError:
        return None


def _read(path: Path, limit: int, flag: int, how: str) -> Speed:
    file = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | flag)
    try:
        if not flag:
            how = _drop(file, limit)
        with mmap.mmap(-1, BLOCK) as buffer:  # direct reads want memory that begins at a page
            began, count = time.perf_counter(), 0
            while count < limit:
                got = _read_into(file, buffer)
                count += got
                if got < BLOCK:
                    break
            return Speed(count, time.perf_counter() - began, how)
    finally:
        os.close(file)


def _read_into(file: int, buffer: mmap.mmap) -> int:
    return os.readv(file, [buffer]) if hasattr(os, "readv") else len(os.read(file, BLOCK))


def _drop(file: int, limit: int) -> str:
    if not hasattr(os, "posix_fadvise"):
        return CACHED
    os.fsync(file)  # only what is on the disk already can be dropped
    os.posix_fadvise(file, 0, limit, os.POSIX_FADV_DONTNEED)
    return DROPPED
