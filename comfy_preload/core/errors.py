"""What is wrong, ready to be shown: made from a row of `error_table.py` and the values found."""

from __future__ import annotations

import pickle
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from comfy_preload.core.error_table import ERRORS
from comfy_preload.core.text import did_you_mean, without_paths


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, ready to be shown: holds no path, token or environment value."""

    code: str
    message: str
    hint: str
    line: int | None = None

    @property
    def text(self) -> str:
        """One line for people, without the place in preload.yaml."""
        return f"{self.message}. {self.hint} [{self.code}]"

    def __str__(self) -> str:
        return f"preload.yaml:{self.line}: {self.text}" if self.line else self.text

    def as_json(self) -> dict[str, str]:
        """Return the keys that every answer has for a problem."""
        return {"code": self.code, "message": self.message, "hint": self.hint}


class PreloadError(Exception):
    """Carries a `Problem` up to the caller that turns it into a state."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


def problem(code: str, *, line: int | None = None, **values: object) -> Problem:
    """Fill in the row of `code`. A missing value is a programming error and raises KeyError."""
    kind = ERRORS[code]
    return Problem(code, kind.sentence.format(**values), kind.hint.format(**values).strip(), line)


def internal_error(error: BaseException) -> Problem:
    """The problem `internal`. The caller logs the traceback."""
    return problem("internal", error=type(error).__name__)


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
"""Of the CUDA runtime's error texts those after which "the process must be terminated and relaunched".

Source: cudaError_t.
"""
_UNRECOVERABLE = (
    (re.compile(r"(cuda|hip) error:"), re.compile("|".join(map(re.escape, _CUDA)))),
    # XPU: oneAPI's unified runtime says that the device is gone (ur_result_t), older ones say it in level
    # zero's words
    (
        re.compile(r".*level_zero backend failed"),
        re.compile(r"(ur|pi|ze)_result_error_device_lost|device_lost"),
    ),
    # NPU: 5070xx of Ascend's runtime are exceptions and timeouts of the cores and the stream (aclError,
    # acl/error_codes)
    (re.compile(r".*npu function error"), re.compile(r"error code is 5070(1[1-9]|2\d|3\d|4[6-9])")),
)
"""By platform: how the errors of its runtime begin, and which of them the process does not recover from."""
_DEVICE_ERRORS = ("torch.AcceleratorError", "torch.cuda.DeferredCudaCallError", "RuntimeError")


def is_unrecoverable(error: str, reason: str) -> bool:
    """Is this exception (its class with its module, its words) the end of the device's context?

    Never for out-of-memory.

    torch raises AcceleratorError since 2.8, a RuntimeError before, for CUDA, HIP, XPU and NPU
    (c10/cuda/CUDAException.cpp, c10/xpu, torch_npu's NPUException.cpp).
    """
    words = " ".join(reason.lower().split())
    if error.removeprefix("builtins.") not in _DEVICE_ERRORS or "out of memory" in words:
        return False
    return any(begins.match(words) and fatal.search(words) for begins, fatal in _UNRECOVERABLE)


def unknown_model(name: str, known: Collection[str]) -> Problem:
    """The problem `model_unknown`."""
    suggestion = did_you_mean(name, known, "GET /preload lists them all.")
    return problem("model_unknown", found=without_paths(name), count=len(known), suggestion=suggestion)
