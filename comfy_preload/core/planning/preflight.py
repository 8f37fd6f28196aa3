"""Plan + files + memory -> the plan again, each call with what is wrong with its files.

All findings at once, before anything is loaded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from comfy_preload.core.errors import Problem, problem
from comfy_preload.core.loader_table import PICKLES
from comfy_preload.core.planning.call import LoaderCall
from comfy_preload.core.planning.plan import Plan
from comfy_preload.core.text import gigabytes

Inspect = Callable[[Path, str], tuple[int, Problem | None]]


@dataclass(frozen=True)
class Checked:
    """A plan that was looked at, and how many bytes each of its calls will read."""

    plan: Plan
    bytes: dict[str, int]
    warnings: tuple[Problem, ...] = ()
    """What is worth a line in the log, and stops nothing."""


def check(plan: Plan, inspect: Inspect, room: int, *, pickles: bool = True, mapped: bool = False) -> Checked:
    """Look into every file. `room`: bytes of main and device memory that can be had together.

    `pickles`: this ComfyUI opens pickles without running the code in them. `mapped`: it keeps weights in
    their files until they are used, so that what does not fit is read again at each use: slow, no failure.

    Files are counted at the size they have on disk, once each, in the plan's order: what no longer
    fits is refused rather than have the kernel kill the process. A model may need more in memory
    than on disk (fp16 computed as fp32 on a CPU), so this finds the hopeless, not the tight.
    """
    seen: dict[Path, tuple[int, Problem | None]] = {}
    counted: dict[Path, int] = {}
    bytes_of: dict[str, int] = {}
    calls: list[LoaderCall] = []
    warnings: list[Problem] = []
    for call in plan.calls:
        problems = list(call.problems)
        own: dict[Path, int] = {}
        for file in call.files:
            if file.path not in seen:
                seen[file.path] = inspect(file.path, file.name)
            own[file.path], wrong = seen[file.path]
            if wrong is not None:
                problems.append(replace(wrong, line=call.entry.line))
            elif not pickles and file.name.lower().endswith(PICKLES):
                problems.append(problem("pickle_refused", line=call.entry.line, file=file.name))
        needed = sum((counted | own).values())
        if not problems and needed > room:
            values = {"found": gigabytes(needed), "expected": gigabytes(room)}
            names = ", ".join(file.name for file in call.files)
            (warnings if mapped else problems).append(
                problem("too_big", line=call.entry.line, file=names, **values)
            )
        if not problems:
            counted |= own
        bytes_of[call.name] = sum(own.values())
        calls.append(replace(call, problems=tuple(problems)))
    return Checked(replace(plan, calls=tuple(calls)), bytes_of, tuple(warnings))
