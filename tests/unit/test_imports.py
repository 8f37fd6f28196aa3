"""The rooms of comfy_preload: imports go one way, and never in a circle."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tools.host import ROOT

PACKAGE = "comfy_preload"
GROUND = "core"
"""The files of core itself: errors, error_table, text, node_types, host, log and the like."""

KNOWS: dict[str, set[str]] = {
    GROUND: set(),
    "core.workflow": {GROUND},
    "core.settings": {GROUND},
    "core.machine": {GROUND},
    "core.planning": {GROUND, "core.workflow", "core.settings", "core.machine"},
    "core.state": {GROUND, "core.planning", "core.workflow", "core.settings", "core.machine"},
    "host": {"core"},
    "api": {"core"},
    "registry": {"core"},
    "cli": {"core", "host.files"},
    "stages": {"core"},
    "preloader": {"core", "stages"},
    "boot": {"core", "stages", "preloader", "host", "api", "registry"},
}
"""Room -> the rooms that it may import, besides itself. `core` stands for all rooms of core.

`host.files` is the one module of host that needs no torch: with it the command line asks a real ComfyUI.
"""


def _modules() -> dict[str, ast.Module]:
    """Every module of the package by its name below it, such as `core.state.readiness`."""
    found: dict[str, ast.Module] = {}
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        name = ".".join(path.relative_to(ROOT / PACKAGE).with_suffix("").parts)
        found[name.removesuffix("__init__").removesuffix(".")] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def _targets(module: str, tree: ast.Module, known: set[str]) -> Iterator[str]:
    """The modules of the package that `tree` imports: at the top, in functions, and for the type checker."""
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module} has a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "import_module":
            names = [str(arg.value) for arg in node.args[:1] if isinstance(arg, ast.Constant)]
        for name in names:
            if (inner := name.removeprefix(f"{PACKAGE}.")) == name:
                continue
            while inner not in known and "." in inner:  # a name in a module
                inner = inner.rpartition(".")[0]
            if inner in known and inner != module:
                yield inner


def arrows() -> set[tuple[str, str]]:
    """(importer, imported), without the packages' own `__init__`, which import nothing here."""
    modules = _modules()
    return {(name, target) for name, tree in modules.items() for target in _targets(name, tree, set(modules))}


def circles(found: set[tuple[str, str]]) -> list[list[str]]:
    """Groups of modules that import each other, directly or by way of others; empty if there is no circle."""
    reach: dict[str, set[str]] = {name: set() for arrow in found for name in arrow}
    for start, seen in reach.items():
        left = [target for name, target in found if name == start]
        while left:
            if (name := left.pop()) not in seen:
                seen.add(name)
                left += [target for source, target in found if source == name]
    groups = {
        tuple(sorted(o for o in reach if o in reach[n] and n in reach[o])) for n in reach if n in reach[n]
    }
    return [list(group) for group in sorted(groups)]


def room(module: str) -> str:
    """`core.state.readiness` -> `core.state`, `core.errors` -> `core`, `api.routes` -> `api`."""
    parts = module.split(".")
    inner = ".".join(parts[:2])
    return inner if inner in KNOWS else parts[0]


def may(importer: str, imported: str) -> bool:
    allowed = KNOWS[importer] | {importer}
    return imported in allowed or (
        importer.partition(".")[0] != GROUND and imported.partition(".")[0] in allowed
    )


def test_no_circle() -> None:
    assert [] == circles(arrows())


def test_rooms() -> None:
    """Every arrow between rooms is one of KNOWS, and every room is in it."""
    found = arrows()
    rooms = {room(name) for arrow in found for name in arrow} - {""}

    assert rooms == KNOWS.keys()
    wrong = {f"{a} -> {b}" for a, b in found if b and not may(room(a), room(b)) and b not in KNOWS[room(a)]}
    assert wrong == set()


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({("a", "b"), ("b", "c")}, []),
        ({("a", "b"), ("b", "a")}, [["a", "b"]]),
        ({("a", "b"), ("b", "c"), ("c", "a"), ("c", "d")}, [["a", "b", "c"]]),
        ({("a", "b"), ("b", "a"), ("b", "c"), ("c", "d"), ("d", "c")}, [["a", "b"], ["c", "d"]]),
    ],
)
def test_circles_are_found(found: set[tuple[str, str]], expected: list[list[str]]) -> None:
    """The walk itself."""
    assert expected == circles(found)
