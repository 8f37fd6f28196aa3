"""Every error there is: a code, a sentence with the value found and the value wanted, and a hint.

One table, so that a code is never spelled twice and `docs/errors.md` can be checked against it.
Codes are public API: once released they are never renamed.
"""

from __future__ import annotations

import difflib
import pickle
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ErrorKind:
    """One row of the table. `sentence` and `hint` are `str.format` templates."""

    meaning: str
    sentence: str
    hint: str


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, ready to be shown: holds no path, token or environment value."""

    code: str
    message: str
    hint: str
    line: int | None = None

    def __str__(self) -> str:
        place = f"preload.yaml:{self.line}: " if self.line else ""
        return f"{place}{self.message}. {self.hint} [{self.code}]"


class PreloadError(Exception):
    """Carries a `Problem` up to whoever turns it into a state."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


ERRORS: dict[str, ErrorKind] = {
    # --- the YAML as a whole -------------------------------------------------------------------
    "yaml_unreadable": ErrorKind(
        "The file that PRELOAD_CONFIG names, or config/preload.yaml, cannot be read.",
        "the settings file cannot be read: {reason}",
        "Check that PRELOAD_CONFIG names a readable file, or unset it.",
    ),
    "yaml_syntax": ErrorKind(
        "The file is not YAML.",
        "the settings file is not valid YAML: {reason}",
        "YAML indents with spaces, never tabs; quote values that contain ': ' or '#'.",
    ),
    "yaml_too_large": ErrorKind(
        "The file, or what its anchors expand to, is beyond any sensible size.",
        "the settings file has {found}; at most {wanted} are accepted",
        "Write the entries out without nested anchors, or split them over replicas.",
    ),
    "yaml_not_a_mapping": ErrorKind(
        "The document is a list or a single value.",
        "the settings file holds {found}; wanted keys such as 'models:'",
        "Put the list under the key 'models:'.",
    ),
    "duplicate_key": ErrorKind(
        "The same key stands twice in one mapping.",
        "key '{key}' stands twice, first in line {first}",
        "Keep one of the two.",
    ),
    "unknown_key": ErrorKind(
        "A key that the file format does not know.",
        "unknown key '{key}'; wanted one of: {wanted}",
        "{suggestion}",
    ),
    "wrong_value": ErrorKind(
        "A value of the wrong type or outside the allowed ones.",
        "{key} is {found}; wanted {wanted}",
        "{suggestion}",
    ),
    "env_unset": ErrorKind(
        "A string uses ${NAME}, but the environment has no such variable.",
        "the environment variable {name} is not set",
        "Set it for the ComfyUI process, or write the value itself.",
    ),
    "too_many_entries": ErrorKind(
        "More models than the limit.",
        "'models' lists {found} entries; the first {wanted} are used",
        "List only what must be loaded at start-up.",
    ),
    # --- one entry -----------------------------------------------------------------------------
    "entry_unclear": ErrorKind(
        "An entry names no model, or several at once.",
        "an entry has {found}; wanted exactly one of: checkpoint, unet, clip, vae, loader",
        "Give each model an entry ('- ') of its own.",
    ),
    "name_taken": ErrorKind(
        "Two entries have the same name.",
        "the name '{name}' is already used by {first}",
        "Names appear in /ready/{name}: choose another.",
    ),
    # --- the entry against this ComfyUI ----------------------------------------------------------
    "loader_unknown": ErrorKind(
        "This ComfyUI has no node class of that name.",
        "loader '{loader}' is not among the {count} node classes of this ComfyUI",
        "{suggestion}",
    ),
    "loader_takes_model": ErrorKind(
        "The node needs the output of another node, so it cannot be run by itself.",
        "loader '{loader}' needs a {type} from another node for its input '{input}'",
        "Preload the node that makes the {type} instead.",
    ),
    "input_unknown": ErrorKind(
        "The loader node has no such input.",
        "{loader} has no input '{input}'; it has: {wanted}",
        "{suggestion}",
    ),
    "input_missing": ErrorKind(
        "A required input without a default is not given.",
        "{loader} needs the input '{input}'",
        "Add '{input}:' to the entry.",
    ),
    "value_not_allowed": ErrorKind(
        "The loader node does not offer that value.",
        "{input} of {loader} is {found}; wanted one of: {wanted}",
        "{suggestion}",
    ),
    "file_missing": ErrorKind(
        "No folder that ComfyUI searches has the file.",
        "{file} is in none of the {count} folders searched for {folder}",
        "{suggestion}",
    ),
    # --- the file ------------------------------------------------------------------------------
    "file_unreadable": ErrorKind(
        "The file is there but cannot be opened.",
        "{file} cannot be read: {reason}",
        "Check the permissions and the mount of the model folder.",
    ),
    "file_empty": ErrorKind(
        "The file has no bytes.",
        "{file} is empty",
        "The download or copy did not finish: fetch it again.",
    ),
    "file_not_safetensors": ErrorKind(
        "The name says safetensors, the content does not.",
        "{file} is not a safetensors file: it {found}",
        "{suggestion}",
    ),
    "file_truncated": ErrorKind(
        "The header promises more bytes than the file has, or fewer.",
        "{file} has {found} bytes; its header describes {wanted}",
        "The download or copy did not finish: fetch it again.",
    ),
    "too_big": ErrorKind(
        "The models up to and including this one do not fit into memory.",
        "with {file} the models need {found}; available are {wanted}",
        "Use an fp16 or fp8 file, list fewer models, or raise the memory limit.",
    ),
    # --- loading -------------------------------------------------------------------------------
    "load_failed": ErrorKind(
        "The loader node raised an error.",
        "{loader} raised {error}: {reason}",
        "The traceback is in ComfyUI's log. Does the file belong to this kind of loader?",
    ),
    "load_refused": ErrorKind(
        "The file is a pickle with code in it; ComfyUI refuses to run it.",
        "{loader} refused the file: it holds more than weights",
        "Convert it to safetensors on a machine that may run it.",
    ),
    "load_exit": ErrorKind(
        "The loader node tried to end the process.",
        "{loader} called for the process to exit ({reason}); that was prevented",
        "Look for the reason in ComfyUI's log, just above.",
    ),
    "load_output": ErrorKind(
        "The loader node returned something that cannot be kept.",
        "{loader} returned {found}; wanted a plain tuple of outputs",
        "Only loader nodes that return their models directly can be preloaded.",
    ),
    "out_of_memory": ErrorKind(
        "Memory ran out while loading.",
        "memory ran out while {loader} was loading",
        "Use an fp16 or fp8 file, list fewer models, or give the process more memory.",
    ),
    "interrupted": ErrorKind(
        "Someone pressed cancel while models were loading.",
        "loading was interrupted from ComfyUI's interface",
        "Restart ComfyUI to load it; until then it is loaded on first use.",
    ),
    "timeout": ErrorKind(
        "Loading takes longer than `timeout`. It goes on; the error goes away when it is done.",
        "not loaded within the {wanted} s that 'timeout' allows",
        "Raise 'timeout', use faster storage, or look for a hanging mount.",
    ),
    "internal": ErrorKind(
        "A fault of this plugin.",
        "the preload itself failed with {error}: {reason}",
        "Please report it with the traceback from ComfyUI's log.",
    ),
}


def problem(code: str, *, line: int | None = None, **values: object) -> Problem:
    """Fill in the row of `code`. A missing value is a programming error and raises KeyError."""
    kind = ERRORS[code]
    return Problem(code, kind.sentence.format(**values), kind.hint.format(**values).strip(), line)


def failure(loader: str, error: BaseException, files: Collection[Path] = ()) -> Problem:
    """What a loader node raised, as a Problem. `files`: their paths are cut out of its words."""
    reason = str(error)
    for path in [*files, *(file.parent for file in files)]:
        for written in (str(path), repr(str(path))[1:-1]):
            reason = reason.replace(written, path.name)
    if isinstance(error, pickle.UnpicklingError):
        return problem("load_refused", loader=loader)
    if isinstance(error, SystemExit):
        return problem("load_exit", loader=loader, reason=without_paths(reason) or "no reason")
    name = type(error).__name__
    return problem("load_failed", loader=loader, error=name, reason=without_paths(reason))


def did_you_mean(word: object, known: Iterable[str], otherwise: str = "") -> str:
    """The question "Did you mean" with the nearest of `known`, else `otherwise`."""
    near = nearest(word, known, 1)
    return f"Did you mean '{near[0]}'?" if near else otherwise


def nearest(word: object, known: Iterable[str], count: int = 3) -> list[str]:
    """Up to `count` names like `word`, best first; letter case does not matter."""
    folded = {name.lower(): name for name in known}
    return [folded[m] for m in difflib.get_close_matches(str(word).lower(), folded, count, 0.6)]


_QUOTED = re.compile(r"(['\"])(?:[A-Za-z]:|~[\w.-]*)?[\\/][^'\"]*?([^\\/'\"]*)[\\/]*\1")
"""An absolute path in quotes, as in OSError: may hold spaces."""
_PATH = re.compile(r"(?<![\w.~%-])(?:[A-Za-z]:|~[\w.-]*)?[\\/]+(?:[^\\/\s'\":]+[\\/]+)*([^\\/\s'\":]+)[\\/]*")
"""An absolute path; `a/b` is a name within a model folder and stays."""


def without_paths(text: str, limit: int = 300) -> str:
    """The first line of `text` with every absolute path cut to its last part.

    Messages of other people's exceptions carry paths; answers over HTTP must not.
    """
    line = next(iter(text.strip().splitlines()), "")[: 4 * limit]  # the patterns take quadratic time
    return _PATH.sub(r"\1", _QUOTED.sub(r"\1\2\1", line))[:limit]
