"""Texts for people.

Names of files and sizes as they are shown, near matches, other programs' words without their paths.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from pathlib import PurePosixPath


def stem(file: str) -> str:
    """Return a file's name without folders and ending: sub/dir/model.safetensors -> model."""
    return PurePosixPath(file.replace("\\", "/")).stem or file


def gigabytes(count: float) -> str:
    """Write a number of bytes: 1234567890 -> '1.23 GB'; small counts in MB."""
    return f"{count / 1e9:,.2f} GB" if count >= 1e8 else f"{count / 1e6:,.1f} MB"


def did_you_mean(word: object, known: Iterable[str], otherwise: str = "") -> str:
    """Ask "Did you mean" with the nearest of `known`; return `otherwise` if none is near."""
    near = nearest(word, known, 1)
    return f"Did you mean '{near[0]}'?" if near else otherwise


def nearest(word: object, known: Iterable[str], count: int = 3) -> list[str]:
    """Return up to `count` names like `word`, best first; letter case does not matter."""
    folded = {name.lower(): name for name in known}
    return [folded[m] for m in difflib.get_close_matches(str(word).lower(), folded, count, 0.6)]


_QUOTED = re.compile(r"(['\"])(?:[A-Za-z]:|~[\w.-]*)?[\\/][^'\"]*?([^\\/'\"]*)[\\/]*\1")
"""An absolute path in quotes, as in OSError: may hold spaces."""
_PATH = re.compile(r"(?<![\w.~%-])(?:[A-Za-z]:|~[\w.-]*)?[\\/]+(?:[^\\/\s'\":]+[\\/]+)*([^\\/\s'\":]+)[\\/]*")
"""An absolute path; `a/b` is a name within a model folder and stays."""


def without_paths(text: str, limit: int = 300) -> str:
    """Return the first line of `text`, every absolute path cut to its last part, at most `limit` characters.

    The messages of exceptions carry paths; answers over HTTP must not.
    """
    line = next(iter(text.strip().splitlines()), "")[: 4 * limit]  # the patterns take quadratic time
    return _PATH.sub(r"\1", _QUOTED.sub(r"\1\2\1", line))[:limit]


MAX_NAMES = 20


def counted(count: int, noun: str) -> str:
    """Write a number with its noun: 1 model, 2 models."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def listed(names: Iterable[str], most: int = MAX_NAMES) -> str:
    """Write names, of many only the first: a, b, … and 1,020 more."""
    every = list(names)
    left = len(every) - most
    return ", ".join(every[:most]) + (f" and {left:,} more" if left > 0 else "")


MAX_SENTENCES = 10


def summary(sentences: Iterable[str]) -> str:
    """Join messages into one, each once, of many only the first ten."""
    once = list(dict.fromkeys(sentences))
    left = len(once) - MAX_SENTENCES
    return "; ".join(once[:MAX_SENTENCES]) + (f"; and {left:,} more" if left > 0 else "")
