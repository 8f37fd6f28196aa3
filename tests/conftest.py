"""Owns how pytest sees the project.

The plugin as a package, a marker for each ring, and what only `make nightly` runs.

`comfy_preload` is imported from the root (`pythonpath` in pyproject.toml). The root itself holds an
`__init__.py`, which only ComfyUI runs; pytest would import it as soon as it collects a test.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from tools.host import ROOT

RINGS = {
    "server": ("host",),
    "device": ("host", "device"),
    "browser": ("host", "browser"),
    "registry": ("redis",),
    "deploy": ("deploy",),
    "ray": ("host", "ray"),
    "cli": (),
    "http": (),
    "loader": (),
    "unit": (),
}
"""Folder below tests/ -> the markers of every test in it, in the order in which they run.

The longest come first, so that two workers end together, and Ray's cluster stays no longer than its tests.
"""

SLOW = {"soak": "PRELOAD_SOAK", "images": "PRELOAD_TEST_IMAGES"}
"""Marker -> the variable that must be 1 for its tests to run."""


class _ByFile(LoadScopeScheduling):
    """One worker runs all tests of a file, which share servers, and one all of Ray, which share a cluster.

    In place of `--dist loadgroup`: xdist 3.8 names groups in a field that pytest 9.2 does not read.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return "tests/ray" if file.startswith("tests/ray/") else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    config.option.loadscopereorder = False  # it would move the longest rings to the end
    return _ByFile(config, log)


class _PluginRootIsAPlainFolder:
    """Pytest does not ask a conftest's own hook about the root; it asks a registered plugin."""

    def pytest_collect_directory(self, path: Path, parent: pytest.Collector) -> pytest.Collector | None:
        return pytest.Dir.from_parent(parent, path=path) if path == ROOT else None


def pytest_configure(config: pytest.Config) -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # by a shell's `&`; children would inherit it
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # Torch takes a thread for each processor; with two workers they wait for each other, three times as long.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    config.pluginmanager.register(_PluginRootIsAPlainFolder())


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order and mark each test by its folder, and skip the slow ones unless they were asked for."""
    rings = list(RINGS)
    items.sort(key=lambda item: rings.index(_ring(item)))  # stable: files stay in their order
    for item in items:
        ring = _ring(item)
        for name in RINGS[ring]:
            item.add_marker(name)
        for marker, variable in SLOW.items():
            if item.get_closest_marker(marker) and os.environ.get(variable) != "1":
                item.add_marker(
                    pytest.mark.skip(reason=f"slow: runs with {variable}=1, as in `make nightly`")
                )


def _ring(item: pytest.Item) -> str:
    return item.path.relative_to(ROOT / "tests").parts[0]


def pytest_sessionfinish(session: pytest.Session, exitstatus: int | pytest.ExitCode) -> None:
    """Fail a run that skipped every test: it has checked nothing, and the reasons say what to install."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or exitstatus != pytest.ExitCode.OK:
        return
    if reporter.stats.get("skipped") and not reporter.stats.get("passed"):
        reporter.write_line("every test was skipped: nothing was checked", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
