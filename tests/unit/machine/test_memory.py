"""Memory that can be had: of the machine and of every cgroup above this process, whichever is least."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from comfy_preload.core.machine.memory import available, cgroup_limit, share_available

GB = 10**9
UNLIMITED_V1 = 9223372036854771712
GIB = 1 << 30


def tree(root: Path, files: dict[str, object]) -> Path:
    """A cgroup tree; `membership` stands for /proc/self/cgroup."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")
    return root


def v2(limit: object, used: int, inactive: int = 0, active: int = 0) -> dict[str, object]:
    stat = f"anon 5\nfile 7\ninactive_file {inactive}\nactive_file {active}"
    return {"memory.max": limit, "memory.current": used, "memory.stat": stat}


def v1(limit: int, used: int, inactive: int = 0) -> dict[str, object]:
    stat = f"inactive_file 1\nactive_file 1\ntotal_inactive_file {inactive}\ntotal_active_file 0"
    return {"memory.limit_in_bytes": limit, "memory.usage_in_bytes": used, "memory.stat": stat}


def under(folder: str, files: dict[str, object]) -> dict[str, object]:
    return {f"{folder}/{name}": content for name, content in files.items()}


@pytest.mark.parametrize(
    ("files", "room"),
    [
        pytest.param({"membership": "0::/", **v2(1000, 400)}, 600, id="v2-root"),
        pytest.param(
            {"membership": "0::/", **v2(1000, 400, inactive=100, active=50)}, 750, id="v2-page-cache-is-free"
        ),
        pytest.param({"membership": "0::/", **v2(1000, 1200)}, 0, id="v2-beyond-limit"),
        pytest.param({"membership": "0::/a/b", **under("a/b", v2(1000, 400))}, 600, id="v2-own-group"),
        pytest.param(
            {"membership": "0::/a/b", **under("a", v2(500, 400)), **under("a/b", v2("max", 9))},
            100,
            id="v2-parent-is-tighter",
        ),
        pytest.param(
            {"membership": "0::/a/b", **under("a", v2(5000, 40)), **under("a/b", v2(900, 9))},
            891,
            id="v2-own-is-tighter",
        ),
        pytest.param({"membership": "0::/docker/abc", **v2(1000, 300)}, 700, id="v2-in-a-container"),
        pytest.param({"membership": "4:memory:/", **under("memory", v1(1000, 400))}, 600, id="v1-root"),
        pytest.param(
            {"membership": "4:memory:/", **under("memory", v1(1000, 400, inactive=50))},
            650,
            id="v1-page-cache-is-free",
        ),
        pytest.param(
            {"membership": "3:cpu:/\n4:cpuset,memory:/k/p", **under("memory/k/p", v1(800, 100))},
            700,
            id="v1-kubernetes",
        ),
        pytest.param(
            {"membership": "4:memory:/docker/abc", **under("memory", v1(1000, 300))},
            700,
            id="v1-in-a-container",
        ),
        pytest.param({"membership": "4:memory:/\n0::/", **under("memory", v1(1000, 400))}, 600, id="hybrid"),
    ],
)
def test_limited(tmp_path: Path, files: dict[str, object], room: int) -> None:
    """The tightest limit counts, and pages of files count as free."""
    tree(tmp_path, files)

    assert room == available(tmp_path, tmp_path / "membership")


@pytest.mark.parametrize(
    "files",
    [
        pytest.param({}, id="no-cgroups"),
        pytest.param({"membership": "0::/", **v2("max", 400)}, id="v2-no-limit"),
        pytest.param(
            {"membership": "4:memory:/", **under("memory", v1(UNLIMITED_V1, 400))}, id="v1-no-limit"
        ),
        pytest.param({"membership": "3:cpu,cpuacct:/a", "cpu/a/cpu.max": 1}, id="no-memory-controller"),
        pytest.param({"membership": "nonsense\n\n::"}, id="nonsense"),
        pytest.param({"membership": "0::/", "memory.max": "lots", "memory.current": "some"}, id="no-numbers"),
    ],
)
def test_not_limited(tmp_path: Path, files: dict[str, object]) -> None:
    """Without a limit it is what the machine has."""
    tree(tmp_path, files)

    assert abs(psutil.virtual_memory().available - available(tmp_path, tmp_path / "membership")) < GIB


def test_this_machine() -> None:
    """The real files of this process can be read."""
    assert 0 < available() <= psutil.virtual_memory().total


def test_share(tmp_path: Path) -> None:
    """What is left of the limit that is nearest."""
    tree(
        tmp_path,
        {"membership": "0::/a/b", **under("a", v2(1000, 900, inactive=50)), **under("a/b", v2(500, 100))},
    )

    assert pytest.approx(0.15) == share_available(tmp_path, tmp_path / "membership")
    assert 0 < share_available() <= 1


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        pytest.param(
            "0::/a/b\n", {"a/b/memory.max": "max", "a/memory.max": str(4 * GB)}, 4 * GB, id="v2-above"
        ),
        pytest.param(
            "0::/a\n", {"a/memory.max": str(4 * GB), "memory.max": str(2 * GB)}, 2 * GB, id="v2-least"
        ),
        pytest.param("0::/a\n", {"a/memory.max": "max"}, None, id="v2-none"),
        pytest.param("0::/elsewhere\n", {"memory.max": str(3 * GB)}, 3 * GB, id="v2-in-a-container"),
        pytest.param("5:cpu,memory:/a\n", {"memory/a/memory.limit_in_bytes": str(GB)}, GB, id="v1"),
        pytest.param(
            "5:memory:/a\n", {"memory/a/memory.limit_in_bytes": "9223372036854771712"}, None, id="v1-none"
        ),
        pytest.param("5:cpu:/a\n", {"memory/a/memory.limit_in_bytes": str(GB)}, None, id="other-controller"),
        pytest.param("nonsense\n\n", {}, None, id="nonsense"),
    ],
)
def test_limit(tmp_path: Path, membership: str, files: dict[str, str], expected: int | None) -> None:
    """The least limit from our own group up to the root."""
    (tmp_path / "self").write_text(membership, encoding="utf-8")
    for name, text in files.items():
        (tmp_path / "cgroup" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "cgroup" / name).write_text(f"{text}\n", encoding="utf-8")

    assert expected == cgroup_limit(tmp_path / "cgroup", tmp_path / "self")


def test_no_cgroups(tmp_path: Path) -> None:
    """macOS, Windows."""
    assert cgroup_limit(tmp_path, tmp_path / "absent") is None


def test_restored_elsewhere(tmp_path: Path) -> None:
    """A restored process has another cgroup with another limit: nothing of the first is kept."""
    root = tree(tmp_path, {"membership": "0::/a", **under("a", v2(1000, 400)), **under("b", v2(500, 100))})
    membership = root / "membership"
    assert (600, 1000) == (available(root, membership), cgroup_limit(root, membership))

    membership.write_text("0::/b\n")
    assert (400, 500) == (available(root, membership), cgroup_limit(root, membership))
