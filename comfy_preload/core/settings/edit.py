"""Append entries to preload.yaml; comments, order and everything else stay unchanged."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

import yaml

from comfy_preload.core.errors import PreloadError, problem
from comfy_preload.core.settings.document import parse as parse_settings

_NULL = "tag:yaml.org,2002:null"


def tag_of(text: str) -> str:
    """Return a tag that changes with the text of the file, for ETag and If-Match.

    A missing file is an empty text.
    """
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def add(file: Path, text: str, lines: str, tag: str) -> str:
    """Append list items to `models:` in the settings file with the content `text`. Return the new text.

    Comments and order stay. Raises PreloadError: settings_changed if `tag` is that of another text,
    settings_not_written.
    """
    if tag != tag_of(text):
        raise PreloadError(problem("settings_changed"))
    after = inserted(text, "".join(f"{line}\n" for line in lines.splitlines() if not line.startswith("#")))
    try:
        _replace(file.resolve(), after)
    except OSError as error:
        raise PreloadError(
            problem("settings_not_written", reason=error.strerror or type(error).__name__)
        ) from error
    return after


def inserted(text: str, items: str) -> str:
    """Return the text with more items in its list `models`.

    Raises PreloadError: settings_not_written, yaml_….
    """
    parse_settings(text)  # report YAML mistakes as problems
    root = yaml.compose(text, yaml.SafeLoader)
    if root is not None and not isinstance(root, yaml.MappingNode):
        raise PreloadError(problem("settings_not_written", reason="it has no keys"))
    rows = text.splitlines()
    pairs = {key.value: (key, value) for key, value in root.value} if root is not None else {}
    key, models = pairs.get("models", (None, None))
    column, row = 2, len(rows)
    if key is None:
        rows.append("models:")
        row += 1
    elif isinstance(models, yaml.SequenceNode) and models.value and not models.flow_style:
        column, row = models.start_mark.column, _last_row(models) + 1
    elif models.value == [] or models.tag == _NULL:
        row = key.start_mark.line + 1
        # remove `[]` and `~`; an empty value ends where the next key begins
        if models.start_mark.line == models.end_mark.line == row - 1:
            line = rows[row - 1]
            rows[row - 1] = (
                line[: models.start_mark.column].rstrip() + line[models.end_mark.column :]
            ).rstrip()
    else:
        raise PreloadError(
            problem("settings_not_written", reason="'models' is not a list with one entry per line")
        )
    rows[row:row] = [f"{' ' * column}{line}".rstrip() for line in items.splitlines()]
    after = "\n".join(rows) + "\n"
    _same_but_for(text, after, items)
    return after


def _last_row(node: yaml.Node) -> int:
    """Return the row of the last value: a block's own end is after the comments that follow it."""
    if isinstance(node, yaml.CollectionNode) and node.value and not node.flow_style:
        last = node.value[-1]
        return _last_row(last[1] if isinstance(last, tuple) else last)
    mark = node.end_mark
    return mark.line - 1 if mark.column == 0 and mark.line > node.start_mark.line else mark.line


def _same_but_for(before: str, after: str, items: str) -> None:
    """Check that nothing else changed."""
    old = yaml.safe_load(before) or {}
    wanted = {**old, "models": [*(old.get("models") or []), *(yaml.safe_load(items) or [])]}
    try:
        same = yaml.safe_load(after) == wanted
    except yaml.YAMLError:
        same = False
    if not same:
        raise PreloadError(
            problem("settings_not_written", reason="the lines do not fit between those that are there")
        )


def read_text(file: Path) -> str:
    """Return the text of the settings file; a missing file is an empty text.

    Raises PreloadError: settings_not_written.
    """
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise PreloadError(problem("settings_not_written", reason=reason)) from error


def _replace(file: Path, text: str) -> None:
    """Write all or nothing: to a file beside it, which is then renamed."""
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        if file.exists():
            shutil.copymode(file, name)
        Path(name).replace(file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
