"""What is wrong, ready to be shown: made from a row of `error_table.py` and the values found."""

from __future__ import annotations

import difflib
import pickle
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from comfy_preload.core.error_table import ERRORS


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


_CUDA = (
    "illegal memory access",
    "device-side assert",
    "unspecified launch failure",
    "misaligned address",
    "illegal instruction",
    "invalid program counter",
    "invalid address space",
    "hardware stack error",
    "uncorrectable ecc error",
    "launch timed out",
    "cuda-capable device(s) is/are busy or unavailable",
    "unknown error",
)
"""Of the CUDA runtime's error texts those after which "the process must be terminated and relaunched" (cudaError_t)."""
_UNRECOVERABLE = (
    (re.compile(r"(cuda|hip) error:"), re.compile("|".join(map(re.escape, _CUDA)))),
    # XPU: oneAPI's unified runtime says that the device is gone (ur_result_t), older ones say it in level zero's words
    (
        re.compile(r".*level_zero backend failed"),
        re.compile(r"(ur|pi|ze)_result_error_device_lost|device_lost"),
    ),
    # NPU: 5070xx of Ascend's runtime are exceptions and timeouts of the cores and the stream (aclError, acl/error_codes)
    (re.compile(r".*npu function error"), re.compile(r"error code is 5070(1[1-9]|2\d|3\d|4[6-9])")),
)
"""By platform: how the errors of its runtime begin, and which of them the process does not recover from."""
_DEVICE_ERRORS = ("torch.AcceleratorError", "torch.cuda.DeferredCudaCallError", "RuntimeError")


def is_unrecoverable(error: str, reason: str) -> bool:
    """Is this exception (its class, with its module, and its words) the end of the device's context? Never for out-of-memory.

    torch raises AcceleratorError since 2.8, a RuntimeError before, for CUDA, HIP, XPU and NPU (c10/cuda/CUDAException.cpp,
    c10/xpu, torch_npu's NPUException.cpp).
    """
    words = " ".join(reason.lower().split())
    if error.removeprefix("builtins.") not in _DEVICE_ERRORS or "out of memory" in words:
        return False
    return any(begins.match(words) and fatal.search(words) for begins, fatal in _UNRECOVERABLE)


def unknown_model(name: str, known: Collection[str]) -> Problem:
    """The problem `model_unknown`."""
    suggestion = did_you_mean(name, known, "GET /preload lists them all.")
    return problem("model_unknown", found=without_paths(name), count=len(known), suggestion=suggestion)


MAX_SENTENCES = 10


def summary(sentences: Iterable[str]) -> str:
    """Join messages into one, each once, of many only the first ten."""
    once = list(dict.fromkeys(sentences))
    left = len(once) - MAX_SENTENCES
    return "; ".join(once[:MAX_SENTENCES]) + (f"; and {left:,} more" if left > 0 else "")


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
