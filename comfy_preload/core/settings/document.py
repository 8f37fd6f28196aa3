"""Parse YAML and keep the line number of each value; do not validate keys.

Mistakes in the text become problems; only a file without any document raises `PreloadError`. ComfyUI's start
imports this even if there is nothing to preload, so it imports neither pydantic nor torch.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import yaml

from comfy_preload import PLUGIN_FOLDER
from comfy_preload.core.errors import PreloadError, Problem, problem

FILE_NAME = "preload.yaml"
"""The name under which problems of the whole file are reported; entries cannot use it."""
MAX_BYTES = 1 << 20
MAX_VALUES = 100_000
MAX_DEPTH = 20

Place = tuple[str | int, ...]
"""The path of a value: ("models", 3, "device")."""

_ENV = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_USER_INFO = re.compile(r"://[^/?#@]*@")
"""User and password of a URL, as written in the file."""


@dataclass(frozen=True)
class Document:
    """`data` contains only dict, list, str, int, float, bool, None (and YAML's dates)."""

    data: Any
    lines: Mapping[Place, int] = field(default_factory=dict)
    problems: tuple[tuple[Place, Problem], ...] = ()
    templates: Mapping[Place, str] = field(default_factory=dict)
    """Strings with ${NAME}, as written: the value of a variable is never shown."""

    def line(self, place: Place) -> int | None:
        """Return the line (from 1) of the value at `place`, or of the closest enclosing value."""
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place)


def settings_path() -> Path:
    """Return the path of the settings file: PRELOAD_CONFIG, or else `config/preload.yaml` in the plugin."""
    named = os.environ.get("PRELOAD_CONFIG", "").strip()
    return Path(named) if named else PLUGIN_FOLDER / "config" / "preload.yaml"


def read(path: Path) -> Document:
    """Parse the file. A missing default file is an empty document; PRELOAD_CONFIG must exist.

    Raises PreloadError: yaml_unreadable, yaml_too_large, yaml_syntax.
    """
    if is_idle_worker():
        return Document(None)
    try:
        with path.open("rb") as stream:
            text = stream.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        if not os.environ.get("PRELOAD_CONFIG", "").strip():
            return Document(None)
        raise PreloadError(problem("yaml_unreadable", reason="no such file")) from error
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise PreloadError(problem("yaml_unreadable", reason=reason)) from error
    if len(text) > MAX_BYTES:
        raise PreloadError(
            problem("yaml_too_large", found=f"more than {MAX_BYTES} bytes", expected=f"{MAX_BYTES}")
        )
    return parse(text)


def parse(text: bytes | str) -> Document:
    """Parse YAML text. Raises PreloadError: yaml_too_large, yaml_syntax."""
    loader: _Loader | None = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        reader = _Reader(loader)
        data = None if node is None else reader.value(node, ())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reason = error.problem or error.context or "unreadable"
        line = mark.line + 1 if mark else None
        raise PreloadError(
            problem("yaml_syntax", line=line, reason=reason, suggestion=_suggestion(reason))
        ) from error
    except (yaml.YAMLError, UnicodeError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise PreloadError(problem("yaml_syntax", reason=reason, suggestion=_suggestion(reason))) from error
    except RecursionError as error:
        raise PreloadError(
            problem("yaml_too_large", found="values nested too deep", expected=f"{MAX_DEPTH} levels")
        ) from error
    finally:
        if loader is not None:
            loader.dispose()
    return Document(data, reader.lines, tuple(reader.problems), reader.templates)


BACKSLASHES = "A backslash in double quotes begins an escape: put the value into single quotes, '…'."
_SUGGESTIONS = (
    ("escape", BACKSLASHES),
    (r"'\\t'", "YAML indents with spaces, never tabs."),
    ("cannot start any token", "Put a value that begins with this character into single quotes, '…'."),
    ("mapping values", "Indent with spaces, and put a value that contains ': ' into single quotes, '…'."),
    (
        r"'<scalar>'|alias|alphabetic|constructor|chomping|anchor|tag",
        "Put a value that begins with [ { \" ' * & ! | > or % into single quotes, '…'; double a ' in it.",
    ),
)
"""What PyYAML says, as a pattern -> what most likely is to be done about it."""


def _suggestion(reason: str) -> str:
    found = (hint for pattern, hint in _SUGGESTIONS if re.search(pattern, reason))
    return next(found, "YAML indents with spaces, never tabs; quote values that contain ': ' or '#'.")


class _Loader(yaml.SafeLoader):
    """PyYAML's composer with an early stop: a MiB of one-letter values would take 10 seconds."""

    _nodes = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self._nodes += 1
        if self._nodes > MAX_VALUES:
            found = f"more than {MAX_VALUES} keys and values"
            raise PreloadError(problem("yaml_too_large", found=found, expected=str(MAX_VALUES)))
        return super().compose_node(parent, index)


class _Reader:
    """Convert YAML nodes into values and count them: nested anchors can expand to billions."""

    def __init__(self, loader: _Loader) -> None:
        self._loader = loader
        self._count = 0
        self.lines: dict[Place, int] = {}
        self.problems: list[tuple[Place, Problem]] = []
        self.templates: dict[Place, str] = {}

    def value(self, node: yaml.Node, place: Place) -> Any:
        self._count += 1
        if self._count > MAX_VALUES:
            found = f"more than {MAX_VALUES} values once its anchors are expanded"
            raise PreloadError(problem("yaml_too_large", found=found, expected=str(MAX_VALUES)))
        if len(place) > MAX_DEPTH:
            raise RecursionError
        self.lines[place] = node.start_mark.line + 1
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, place)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(child, (*place, i)) for i, child in enumerate(node.value)]
        scalar = self._scalar(node)
        return self._expand(scalar, place) if isinstance(scalar, str) else scalar

    def _scalar(self, node: yaml.Node) -> Any:
        try:
            return self._loader.construct_object(node)
        except (
            ArithmeticError,
            AttributeError,
            LookupError,
            TypeError,
            ValueError,
        ) as error:  # PyYAML on `!!int ""`
            kind = node.tag.rpartition(":")[2]
            line = node.start_mark.line + 1
            raise PreloadError(
                problem(
                    "yaml_syntax",
                    line=line,
                    reason=f"a value is not a valid {kind}",
                    suggestion=_suggestion("tag"),
                )
            ) from error

    def _mapping(self, node: yaml.MappingNode, place: Place) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = str(key_node.value) if isinstance(key_node, yaml.ScalarNode) else "[…]"
            key = key.encode(errors="replace").decode()  # "\ud800" is not a character
            here = (*place, key)
            line = key_node.start_mark.line + 1
            if key in found:
                first = self.lines[here]
                self.problems.append((here, problem("duplicate_key", line=line, key=key, first=first)))
                continue
            found[key] = self.value(value_node, here)
            self.lines[here] = line
        return found

    def _expand(self, text: str, place: Place) -> str:
        user_info = _USER_INFO.search(text)

        def value_of(match: re.Match[str]) -> str:
            name = match.group(1)
            if name in os.environ:
                inside = user_info is not None and user_info.start() < match.start() < user_info.end()
                return _quoted(os.environ[name]) if inside else os.environ[name]
            line = self.lines[place]
            self.problems.append((place, problem("env_unset", line=line, name=name)))
            return match.group(0)

        expanded = _ENV.sub(value_of, text)
        if expanded != text:
            self.templates[place] = text
        return expanded


def _quoted(value: str) -> str:
    """Quote a user or password for a URL: `#`, `/`, `?` and `@` in it would end it.

    One that is quoted stays as it is.
    """
    is_quoted = unquote(value) != value and quote(value, safe="%") == value
    return value if is_quoted else quote(value, safe="")


def is_idle_worker() -> bool:
    """Return whether this is a worker of ComfyUI-Distributed.

    Workers get their master's environment, and so its settings file.

    The pack marks it with COMFYUI_IS_WORKER (workers/process/lifecycle.py). It loads nothing unless
    PRELOAD_WORKERS is 1: every worker would load the master's whole list.
    """
    return os.environ.get("COMFYUI_IS_WORKER") == "1" and os.environ.get("PRELOAD_WORKERS") != "1"
