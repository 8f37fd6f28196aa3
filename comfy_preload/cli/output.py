"""What goes to the terminal: tables, JSON, progress, complaints. Nothing else in the plugin prints."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from comfy_preload.core.errors import Problem

Row = Sequence[str]


def say(text: str = "") -> None:
    """A line of the answer."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def remark(text: str) -> None:
    """A line beside the answer."""
    sys.stderr.write(f"{text}\n")


def say_json(value: Any) -> None:
    say(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


def complain(problem: Problem, *, as_json: bool) -> None:
    """The one problem that ends a command."""
    if as_json:
        say_json({"error": problem_json(problem)})
    remark(f"preload.py: {problem}")


def problem_json(problem: Problem) -> dict[str, Any]:
    """The same keys as in the answers over HTTP."""
    return {**problem.as_json(), "line": problem.line}


def progress(text: str) -> None:
    """Replace the line at the bottom of the terminal; where there is none, nothing."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()


def table(title: str, head: Row, rows: Iterable[Row], *, right: Iterable[int] = ()) -> None:
    """Columns; `right`: those that are numbers. Rich draws it on a terminal if it is installed; a pipe gets plain text."""
    lines, numbers = list(rows), set(right)
    if sys.stdout.isatty():
        try:
            _rich_table(title, head, lines, numbers)
        except ImportError:
            pass
        else:
            return
    widths = [max(len(cells[i]) for cells in [head, *lines]) for i in range(len(head))]
    say(f"\n{title}")
    for cells in [head, *lines]:
        aligned = (
            c.rjust(w) if i in numbers else c.ljust(w)
            for i, (c, w) in enumerate(zip(cells, widths, strict=True))
        )
        say(f"  {'  '.join(aligned)}".rstrip())


def _rich_table(title: str, head: Row, rows: list[Row], right: set[int]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(title=title, title_justify="left")
    for i, name in enumerate(head):
        drawn.add_column(name, justify="right" if i in right else "left", overflow="fold")
    for cells in rows:
        drawn.add_row(*map(Text, cells))  # as Text: a file name in [brackets] is no markup
    Console().print(drawn)
