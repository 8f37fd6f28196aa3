"""ComfyUI's own workflow templates: download those that a ComfyUI pins, and convert them there.

The templates are fetched, never committed; `template_loaders.json` holds only facts about them
(tools/template_truth.py).
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
FACTS = ROOT / "tests" / "support" / "template_loaders.json"
CHILD = ROOT / "tests" / "support" / "template_facts.py"
PACKAGE = "comfyui-workflow-templates"


def pinned(host: Path) -> str:
    """Return the version of the templates that this ComfyUI pins."""
    text = (host / "requirements.txt").read_text(encoding="utf-8")
    found = re.search(rf"^{PACKAGE}==(\S+)", text, re.MULTILINE)
    return found[1] if found else ""


def fetch(version: str, into: Path = ROOT / ".host" / "templates") -> Path:
    """Return a folder with the templates of that version; download them first if needed."""
    folder = into / version
    if not folder.is_dir():
        into.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=into) as made:
            _fill(version, Path(made), Path(made) / "json")
            (Path(made) / "json").rename(folder)
    return folder


def facts(host: Path, python: Path, source: Path) -> dict[str, dict[str, Any]]:
    """Return, by template, a digest of its prompt and its loader calls, with that ComfyUI's node classes.

    source: a folder with templates, which are parsed; or a JSON file with prompts by name, which are taken as
    they are.
    """
    with tempfile.TemporaryDirectory() as base:
        answer = Path(base) / "facts.json"
        command = [str(python), str(CHILD), str(ROOT), str(source), str(answer), base]
        environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
        done = subprocess.run(
            command, cwd=host, env=environment, check=False, capture_output=True, text=True, timeout=280
        )
        if done.returncode:
            raise RuntimeError(done.stderr[-4000:])
        found: dict[str, dict[str, Any]] = json.loads(answer.read_text(encoding="utf-8"))
        return found


def _fill(version: str, work: Path, target: Path) -> None:
    """Return the `.json` files of the packages of this version. Up to 0.7 they include images: 90 MB."""
    _download(work, f"{PACKAGE}=={version}")
    (whole,) = work.glob("*.whl")
    with zipfile.ZipFile(whole) as archive:
        metadata = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        head = archive.read(metadata).decode().partition("\n\n")[0]
    parts = [
        part for part in re.findall(r"^Requires-Dist: (\S+)$", head, re.MULTILINE) if part.startswith(PACKAGE)
    ]
    _download(
        work,
        *([part for part in parts if "-json==" in part] or [part for part in parts if "-media-" in part]),
    )
    target.mkdir()
    for wheel in work.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                if name.endswith(".json"):
                    (target / Path(name).name).write_bytes(archive.read(name))


def _download(into: Path, *packages: str) -> None:
    command = [
        sys.executable,
        "-m",
        "pip",
        "-qq",
        "--disable-pip-version-check",
        "download",
        "--no-deps",
        "--dest",
        str(into),
    ]
    subprocess.run([*command, *packages], check=True, timeout=600)
