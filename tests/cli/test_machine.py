"""The container's memory limit, as cgroup v2 and v1 write it."""

from __future__ import annotations

from pathlib import Path

import pytest

from comfy_preload.cli.machine import cgroup_limit

GB = 10**9


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
