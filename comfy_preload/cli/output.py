"""Everything that goes to the terminal: tables, JSON, progress, problems.

Nothing else in the plugin prints.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from comfy_preload.core.errors import Problem

Row = Sequence[str]


def say(text: str = "") -> None:
    """Write a line of the result."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def remark(text: str) -> None:
    """Write a line beside the result, to stderr."""
    sys.stderr.write(f"{text}\n")


def say_json(value: Any) -> None:
    say(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


def complain(problem: Problem, *, as_json: bool) -> None:
    """Report the problem that ends a command."""
    if as_json:
        say_json({"error": problem_json(problem)})
    remark(f"preload.py: {problem}")


def problem_json(problem: Problem) -> dict[str, Any]:
    """The same keys as in the answers over HTTP."""
    return {**problem.as_json(), "line": problem.line}


def progress(text: str) -> None:
    """Replace the last line of the terminal; do nothing without a terminal."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()


def table(title: str, head: Row, rows: Iterable[Row], *, right: Iterable[int] = ()) -> None:
    """Write a table. `right`: the columns that are aligned to the right."""
    lines, numbers = [head, *rows], set(right)
    widths = [max(len(cells[i]) for cells in lines) for i in range(len(head))]
    say(f"\n{title}")
    for cells in lines:
        columns = enumerate(zip(cells, widths, strict=True))
        aligned = (c.rjust(w) if i in numbers else c.ljust(w) for i, (c, w) in columns)
        say(f"  {'  '.join(aligned)}".rstrip())
