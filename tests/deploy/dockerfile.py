"""Owns the reading of deploy/docker/Dockerfile and .dockerignore.

What is sent to the builder, what each stage takes of it.
"""

from __future__ import annotations

import json
import re
from fnmatch import fnmatch
from pathlib import Path

from docker.utils.build import exclude_paths

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy" / "docker"
FILE = FOLDER / "Dockerfile"


def sent(root: Path = ROOT) -> set[str]:
    """The files that .dockerignore lets through, by Docker's own rules."""
    patterns = [
        line
        for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
        if line and line[0] != "#"
    ]
    return {name for name in exclude_paths(str(root), patterns) if (root / name).is_file()}


def instructions(stage: str) -> list[tuple[str, str]]:
    """A stage's instructions and their arguments, each on one line."""
    text = re.sub(r"^\s*#.*\n", "", FILE.read_text(encoding="utf-8"), flags=re.MULTILINE).replace("\\\n", " ")
    found: dict[str, list[tuple[str, str]]] = {}
    current = ""
    for line in filter(None, map(str.strip, text.splitlines())):
        word, _, rest = line.partition(" ")
        if word == "FROM":
            current = rest.rpartition(" AS ")[2]
        found.setdefault(current, []).append((word, rest.strip()))
    return found[stage]


def value(stage: str, word: str) -> str:
    """What the last instruction of that name says."""
    return [rest for name, rest in instructions(stage) if name == word][-1]


def arguments(stage: str) -> dict[str, str]:
    """Build arguments with their defaults."""
    pairs = (rest.partition("=") for name, rest in instructions(stage) if name == "ARG")
    return {name: default for name, _, default in pairs}


def health_check() -> list[str]:
    """The command, with its words apart."""
    words: list[str] = json.loads(value("runtime", "HEALTHCHECK").partition("CMD ")[2])
    return words


def copied(stage: str, files: set[str]) -> set[str]:
    """Those of the files that a stage copies."""
    filled = arguments(stage)
    sources: list[str] = []
    for name, rest in instructions(stage):
        if name == "COPY":
            words = [word for word in rest.split() if not word.startswith("--")]
            sources += [re.sub(r"\$\{(\w+)\}", lambda found: filled[found[1]], word) for word in words[:-1]]
    return {file for file in files if any(_matches(file, source) for source in sources)}


def _matches(file: str, source: str) -> bool:
    """A folder takes all that is in it; a star does not reach into folders."""
    return file.startswith(f"{source}/") or (fnmatch(file, source) and file.count("/") == source.count("/"))
