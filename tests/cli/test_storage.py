"""What a file lies on is read from the mount table and /sys, and its speed is measured by reading it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from comfy_preload.cli import storage
from comfy_preload.cli.storage import CACHED, DIRECT, DROPPED, is_sparse, measure, storage_of

MIB = 1 << 20


def tree(root: Path, mounts: str, disks: dict[str, dict[str, str]] | None = None) -> tuple[Path, Path]:
    """A /proc with this mount table, and a /sys with these block devices: "8:1" -> files below its folder."""
    (root / "proc" / "self").mkdir(parents=True)
    (root / "proc" / "self" / "mountinfo").write_text(mounts, encoding="utf-8")
    blocks = root / "sys" / "dev" / "block"
    blocks.mkdir(parents=True)
    for number, files in (disks or {}).items():
        place = root / "sys" / "devices" / files["at"]
        place.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            if name.startswith("slaves/"):
                (place / "slaves").mkdir(exist_ok=True)
                (place / name).symlink_to(root / "sys" / "devices" / text)
            elif name != "at":
                (place / name).parent.mkdir(parents=True, exist_ok=True)
                (place / name).write_text(f"{text}\n", encoding="utf-8")
        (blocks / number).symlink_to(place)
    return root / "proc", root / "sys"


def disk(at: str, rotational: str = "0", **files: str) -> dict[str, str]:
    return {"at": at, "queue/rotational": rotational, **files}


@pytest.mark.parametrize(
    ("filesystem", "device", "disks", "expected"),
    [
        pytest.param(
            "ext4", "259:2", {"259:2": {"at": "pci/nvme0n1/nvme0n1p2", "partition": "2"}}, "NVMe", id="nvme"
        ),
        pytest.param("xfs", "8:0", {"8:0": disk("pci/sda")}, "SSD", id="ssd"),
        pytest.param("ext4", "8:16", {"8:16": disk("pci/sdb", "1")}, "rotating disk", id="rotating"),
        pytest.param("ext4", "254:0", {"254:0": disk("pci/vda", "1")}, "virtual disk", id="virtio"),
        pytest.param(
            "ext4", "8:0", {"8:0": disk("pci/sda") | {"device/vendor": "QEMU    "}}, "virtual disk", id="qemu"
        ),
        pytest.param("ext4", "9:9", {}, "unknown", id="not-in-sys"),
        pytest.param("ext4", "7:0", {"7:0": disk("virtual/loop0")}, "unknown", id="loop"),
        pytest.param("nfs4", "0:50", {}, "network", id="nfs"),
        pytest.param("cifs", "0:50", {}, "network", id="cifs"),
        pytest.param("fuse.s3fs", "0:50", {}, "network", id="bucket"),
        pytest.param("virtiofs", "0:50", {}, "network", id="virtiofs"),
        pytest.param("ocfs2", "0:50", {}, "network", id="ocfs2"),
        pytest.param("fuse.ntfs-3g", "0:50", {}, "unknown", id="fuse-on-a-disk"),
        pytest.param("overlay", "0:50", {}, "overlay", id="overlay"),
        pytest.param("tmpfs", "0:50", {}, "tmpfs", id="tmpfs"),
        pytest.param(
            "ext4",
            "253:0",
            {
                "259:0": {"at": "pci/nvme0n1"},
                "8:0": disk("pci/sda", "1"),
                "253:0": {"at": "virtual/dm-0", "slaves/nvme0n1": "pci/nvme0n1", "slaves/sda": "pci/sda"},
            },
            "rotating disk",
            id="lvm-over-two",
        ),
    ],
)
def test_kind(
    tmp_path: Path, filesystem: str, device: str, disks: dict[str, dict[str, str]], expected: str
) -> None:
    """The file system's type, then the device, then what the device stands on."""
    mounts = (
        f"1 0 9:9 / / rw - ext4 /dev/root rw\n2 1 {device} / /srv/models ro,noatime shared:5 - "
        f"{filesystem} what rw\n"
    )
    proc, sys_ = tree(tmp_path, mounts, disks)
    found = storage_of(Path("/srv/models/a/b.safetensors"), proc, sys_)

    assert (expected, "/srv/models", filesystem) == (found.kind, found.mount, found.filesystem)


def test_partition(tmp_path: Path) -> None:
    """A partition has no queue of its own."""
    disks = {"8:0": disk("pci/sda", "1"), "8:1": {"at": "pci/sda/sda1", "partition": "1"}}
    proc, sys_ = tree(tmp_path, "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n", disks)

    assert "rotating disk" == storage_of(Path("/srv/x"), proc, sys_).kind


@pytest.mark.parametrize(
    ("mounts", "mount"),
    [
        pytest.param("1 0 0:1 / / rw - tmpfs t rw\n2 1 0:2 / /srv rw - nfs t rw\n", "/srv", id="deepest"),
        pytest.param("1 0 0:1 / /srv rw - tmpfs t rw\n2 1 0:2 / /srv rw - nfs t rw\n", "/srv", id="covered"),
        pytest.param(
            "1 0 0:1 / / rw - nfs t rw\n2 1 0:2 / /srv/mod rw - tmpfs t rw\n", "/", id="name-begins-alike"
        ),
        pytest.param(
            "1 0 0:1 / /srv/my\\040models rw - tmpfs t rw\n2 1 0:2 / / rw - nfs t rw\n", "/", id="order"
        ),
        pytest.param("1 0 0:1 / / rw - nfs t rw\nnonsense\n\n", "/", id="nonsense"),
    ],
)
def test_mount(tmp_path: Path, mounts: str, mount: str) -> None:
    """The mount that is nearest above the file, and of two in one place the later."""
    found = storage_of(Path("/srv/models/x"), *tree(tmp_path, mounts))

    assert (mount, "network") == (found.mount, found.kind)


def test_space_in_mount(tmp_path: Path) -> None:
    """The mount table writes blanks as octal numbers."""
    proc, sys_ = tree(tmp_path, "1 0 0:1 / /srv/my\\040models rw - tmpfs t rw\n")

    assert "/srv/my models" == storage_of(Path("/srv/my models/x"), proc, sys_).mount


def test_no_mount_table(tmp_path: Path) -> None:
    """macOS, Windows."""
    assert "unknown" == storage_of(tmp_path, tmp_path / "proc", tmp_path / "sys").kind


@pytest.mark.skipif(sys.platform != "linux", reason="Linux's mount table")
def test_this_machine(tmp_path: Path) -> None:
    """Here it finds the file system that the file is in."""
    found = storage_of(tmp_path)

    assert found.filesystem
    assert os.stat(found.mount).st_dev == tmp_path.stat().st_dev  # noqa: PTH116 — a mount point is a text here


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="no tmpfs")  # noqa: S108 — a tmpfs on purpose
def test_tmpfs() -> None:
    """Memory is reported as memory."""
    assert "tmpfs" == storage_of(Path("/dev/shm")).kind  # noqa: S108 — see above


@pytest.mark.parametrize("size", [0, 1, 4096, storage.BLOCK, storage.BLOCK + 12345, 3 * storage.BLOCK])
def test_measure(tmp_path: Path, size: int) -> None:
    """Reads to the end of the file and no further, whatever its size, and says how."""
    file = tmp_path / "file"
    file.write_bytes(os.urandom(size))
    speed = measure(file, 1 << 40)

    assert speed
    assert size == speed.bytes
    assert speed.seconds > 0
    assert speed.how in (DIRECT, DROPPED, CACHED)


def test_measure_limit(tmp_path: Path) -> None:
    """Reads no more than it was asked to, in whole blocks."""
    file = tmp_path / "file"
    file.write_bytes(bytes(5 * storage.BLOCK))
    speed = measure(file, storage.BLOCK + 1)

    assert speed
    assert 2 * storage.BLOCK == speed.bytes
    assert speed.rate == speed.bytes / speed.seconds


def test_measure_without_o_direct(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no O_DIRECT the pages are dropped first; where that cannot be done either it says so."""
    file = tmp_path / "file"
    file.write_bytes(bytes(MIB))
    monkeypatch.delattr(os, "O_DIRECT", raising=False)
    if hasattr(os, "posix_fadvise"):
        assert DROPPED == getattr(measure(file, MIB), "how", None)
    monkeypatch.delattr(os, "posix_fadvise", raising=False)
    assert CACHED == getattr(measure(file, MIB), "how", None)


@pytest.mark.parametrize("name", ["absent", "folder"])
def test_unreadable(tmp_path: Path, name: str) -> None:
    """What cannot be read is not measured."""
    (tmp_path / "folder").mkdir()

    assert measure(tmp_path / name, MIB) is None
    assert measure(tmp_path / "folder", 0) is None


def test_sparse(tmp_path: Path) -> None:
    """Holes are noticed."""
    hole, full = tmp_path / "hole", tmp_path / "full"
    with hole.open("wb") as file:
        file.truncate(MIB)
    full.write_bytes(os.urandom(MIB))
    with full.open("rb") as file:
        os.fsync(file.fileno())

    assert (True, False) == (is_sparse(hole), is_sparse(full))
