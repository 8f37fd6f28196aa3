"""Validate a document into typed, frozen settings. Report all problems at once, each with its line number.

A bad entry stays in the list with its problems and is reported as failed. A bad key of the file gets its
default and is reported for the file. Nothing here raises on bad input.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from comfy_preload.core.errors import PreloadError, Problem, problem
from comfy_preload.core.settings.document import FILE_NAME, Document, Place, read
from comfy_preload.core.settings.entry import Entry
from comfy_preload.core.settings.schema import ENTRIES, AnyEntry, Options, SettingsFile, WorkflowEntry
from comfy_preload.core.text import did_you_mean, stem, without_paths

MAX_ENTRIES = 1000


@dataclass(frozen=True)
class WorkflowSource:
    """One entry of `workflows:`. An entry with `problems` is only reported."""

    given: WorkflowEntry
    line: int | None = None
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True)
class Settings:
    """The validated file. `options` has the keys other than the lists, all valid."""

    options: Options
    entries: tuple[Entry, ...]
    problems: tuple[Problem, ...] = ()
    workflows: tuple[WorkflowSource, ...] = ()
    folder: Path = Path()
    """The folder of the settings file: workflows are searched for there first."""

    @property
    def is_empty(self) -> bool:
        """Return whether there is nothing to preload."""
        return not self.entries and not self.workflows


def load(path: Path) -> Settings:
    """Read and validate the settings file. Never raises: an unreadable file is a problem of the settings."""
    try:
        settings = validate(read(path))
    except PreloadError as error:
        settings = Settings(Options(), (), (error.problem,))
    return replace(settings, folder=path.parent)


def validate(document: Document) -> Settings:
    """Validate a document. Never raises on bad input."""
    data = {} if document.data is None else document.data
    if not isinstance(data, dict):
        found = f"a {_kind_of(data)}"
        return Settings(Options(), (), (problem("yaml_not_a_mapping", line=1, found=found),))
    lists = ("models", "workflows")
    own = [
        p for place, p in document.problems if place[:1] not in [(key,) for key in lists] or len(place) < 2
    ]
    options, wrong = _options({k: v for k, v in data.items() if k not in lists}, document)
    models = _listed("models", data, document, wrong)
    entries = [_entry(raw, i, document) for i, raw in enumerate(models)]
    workflows = tuple(
        _workflow(raw, i, document) for i, raw in enumerate(_listed("workflows", data, document, wrong))
    )
    return Settings(options, _distinct(entries, models), _in_order([*own, *wrong]), workflows)


def _listed(key: str, data: dict[str, Any], document: Document, wrong: list[Problem]) -> list[Any]:
    """Return the list under `key`, cut at the maximum length; add problems of the list to `wrong`."""
    raws = data.get(key) or []
    if not isinstance(raws, list):
        values = {"found": _show(raws, document, (key,)), "expected": "a list of entries"}
        suggestion = "Start each entry with '- '."
        wrong.append(
            problem("wrong_value", line=document.line((key,)), key=key, suggestion=suggestion, **values)
        )
        return []
    if len(raws) > MAX_ENTRIES:
        line = document.line((key, MAX_ENTRIES))
        wrong.append(problem("too_many_entries", line=line, key=key, found=len(raws), expected=MAX_ENTRIES))
    return raws[:MAX_ENTRIES]


def _workflow(raw: Any, index: int, document: Document) -> WorkflowSource:
    place: Place = ("workflows", index)
    line = document.line(place)
    problems = [p for at, p in document.problems if at[:2] == place]
    known = raw if isinstance(raw, dict) else {}
    path = known.get("path")
    named = path if isinstance(path, str) and 0 < len(path) <= 500 else f"workflows[{index}]"
    broken = WorkflowEntry(path=named, required=known.get("required") is not False)
    if not isinstance(raw, dict) or "path" not in raw:
        problems.append(problem("workflow_unclear", line=line, found=_keys_of(raw)))
        return WorkflowSource(broken, line, _in_order(problems))
    try:
        given = WorkflowEntry.model_validate(raw)
    except ValidationError as error:
        problems += _problems(error, document, place, WorkflowEntry)
        given = broken
    return WorkflowSource(given, line, _in_order(problems))


def _options(raw: dict[str, Any], document: Document) -> tuple[Options, list[Problem]]:
    try:
        return Options.model_validate(raw), []
    except ValidationError as error:
        problems = _problems(error, document, (), SettingsFile)
        bad = {item["loc"][0] for item in error.errors()}
        return Options.model_validate({k: v for k, v in raw.items() if k not in bad}), problems


def _entry(raw: Any, index: int, document: Document) -> Entry:
    place: Place = ("models", index)
    line = document.line(place)
    problems = [p for at, p in document.problems if at[:2] == place]
    kinds = [key for key in ENTRIES if isinstance(raw, dict) and key in raw]
    if len(kinds) != 1:
        found = " and ".join(kinds) or _keys_of(raw)
        problems.append(problem("entry_unclear", line=line, found=found))
        return _broken(raw, index, line, problems)
    parsed: AnyEntry | None = None
    try:
        parsed = ENTRIES[kinds[0]].model_validate(raw)
    except ValidationError as error:
        problems += _problems(error, document, place, ENTRIES[kinds[0]])
    if parsed is None or problems:
        return _broken(raw, index, line, problems)
    loader, inputs = parsed.call()
    name = parsed.name or parsed.default_name().replace("/", "_")
    written = _written(raw, place, document)
    return Entry(name, parsed.KIND, loader, inputs, parsed.required, parsed.device, line, written=written)


def _written(raw: Any, place: Place, document: Document) -> dict[str, str]:
    found: dict[str, str] = {}
    for at, text in document.templates.items():
        if at[: len(place)] == place:
            value = raw
            for part in at[len(place) :]:
                value = value[part]
            found[str(value)] = text
    return found


def _broken(raw: Any, index: int, line: int | None, problems: list[Problem]) -> Entry:
    """Return an entry that is only reported. It is required unless it has `required: false`."""
    known = raw if isinstance(raw, dict) else {}
    kind = next((key for key in ENTRIES if key in known), "loader")
    named = known.get("name")
    given = named if isinstance(named, str) and "/" not in named else known.get(kind)
    name = stem(given).replace("/", "_")[:200] if isinstance(given, str) and given else f"models[{index}]"
    required = known.get("required") is not False
    return Entry(name, kind, "", {}, required, "gpu", line, _in_order(problems))


def _distinct(entries: list[Entry], raws: list[Any]) -> tuple[Entry, ...]:
    """Make names unique: a chosen name that occurs twice is a problem, a default name gets a number."""
    chosen = {
        i
        for i, (entry, raw) in enumerate(zip(entries, raws, strict=True))
        if isinstance(raw, dict) and raw.get("name") == entry.name
    }
    taken: dict[str, int | None] = {FILE_NAME: None}
    done: dict[int, Entry] = {}
    for i in sorted(range(len(entries)), key=lambda i: (i not in chosen, i)):
        entry = entries[i]
        if entry.name in taken and i in chosen:
            first = (
                "the settings file itself"
                if entry.name == FILE_NAME
                else f"the entry in line {taken[entry.name]}"
            )
            name = entry.written.get(entry.name, entry.name)
            clash = problem("name_taken", line=entry.line, name=name, first=first)
            entry = replace(entry, problems=(*entry.problems, clash))
        base, count = entry.name, 1
        while entry.name in taken:
            count += 1
            entry = replace(entry, name=f"{base}-{count}")
        taken[entry.name] = entry.line
        done[i] = entry
    return tuple(done[i] for i in range(len(entries)))


def _problems(
    error: ValidationError, document: Document, base: Place, model: type[BaseModel]
) -> list[Problem]:
    """Convert pydantic's errors into problems: one for each value, however many types were allowed."""
    findings: dict[Place, list[ErrorDetails]] = {}
    for item in error.errors(include_url=False):
        place = base
        for part in item["loc"]:  # the parts after the value are branches of its union
            if (*place, part) in document.lines:
                place = (*place, part)
        if place == base:
            place = (*base, *item["loc"][:1])
        findings.setdefault(place, []).append(item)
    return [_finding(place, items, document, model) for place, items in findings.items()]


def _finding(place: Place, items: list[ErrorDetails], document: Document, model: type[BaseModel]) -> Problem:
    key, line = str(place[-1]), document.line(place)
    fields = _fields(model, items[0]["loc"][:-1])
    if items[0]["type"] == "extra_forbidden":
        suggestion = did_you_mean(key, fields, "Remove it.")
        expected = ", ".join(fields)
        return problem("unknown_key", line=line, key=key, expected=expected, suggestion=suggestion)
    expected = " or ".join(_expected(item) for item in items)
    field = fields.get(key)
    choices = get_args(field.annotation) if field is not None else ()
    words = [choice for choice in choices if isinstance(choice, str)]
    return problem(
        "wrong_value",
        line=line,
        key=key,
        found=_show(items[0]["input"], document, place),
        expected=expected,
        suggestion=did_you_mean(items[0]["input"], words, "The keys are explained in docs/settings.md."),
    )


def _fields(model: type[BaseModel], below: tuple[int | str, ...]) -> dict[str, FieldInfo]:
    """Return the fields of the model, or of the nested model at `below`."""
    for part in below:
        field = model.model_fields.get(str(part))
        kinds = (field.annotation, *get_args(field.annotation)) if field is not None else ()  # or None
        nested = next(
            (kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None
        )
        if nested is None:
            break
        model = nested
    return model.model_fields


def _expected(item: ErrorDetails) -> str:
    if item["type"] == "string_pattern_mismatch":
        return "a text without '/' and control characters"
    return item["msg"].removeprefix("Input should be ").split(", unable")[0]


def _show(value: Any, document: Document, place: Place) -> str:
    """Return a value as written, shortened; the value of a ${NAME} is not shown."""
    if place in document.templates:
        return repr(document.templates[place])
    if isinstance(value, dict | list):
        return f"a {_kind_of(value)}"
    text = without_paths(repr(value))
    return text if len(text) <= 80 else text[:77] + "…"


def _in_order(problems: list[Problem]) -> tuple[Problem, ...]:
    return tuple(sorted(problems, key=lambda p: p.line or 0))


def _keys_of(raw: Any) -> str:
    if not isinstance(raw, dict) or not raw:
        return "nothing" if raw is None else f"a {_kind_of(raw)}"
    more = ", …" if len(raw) > 10 else ""
    return f"only the keys: {', '.join(list(raw)[:10])}{more}"


def _kind_of(value: Any) -> str:
    if isinstance(value, dict):
        return f"mapping with {len(value)} keys"
    if isinstance(value, list):
        return f"list of {len(value)} values"
    return "nothing" if value is None else f"single value ({type(value).__name__})"
