"""What can be typed, and which module answers it. Those are imported only when they are asked for."""

from __future__ import annotations

import argparse
import importlib
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from comfy_preload import PLUGIN_FOLDER
from comfy_preload.cli.output import complain
from comfy_preload.core.error_table import ERRORS
from comfy_preload.core.errors import PreloadError

GOOD = 0
"""The exit code of success. argparse itself ends with 2."""
EPILOG = "exit codes: 0 good, 1 findings or not ready, 2 wrong usage. Explained in docs/cli.md."


def run(argv: Sequence[str] | None = None) -> int:
    """Parse, run, and turn what goes wrong into one line and an exit code."""
    _leave_path()
    options = parser().parse_args(argv)
    try:
        command = importlib.import_module(f"comfy_preload.cli.{options.command}")
        return int(command.run(options))
    except PreloadError as error:
        complain(error.problem, as_json=options.json)
        return ERRORS[error.problem.code].exit_code
    except KeyboardInterrupt:
        return 130
    except (
        BrokenPipeError
    ):  # `… | head`: nobody reads any further, and the interpreter's own flush would complain
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return GOOD


def parser() -> argparse.ArgumentParser:
    """All commands with all their options."""
    top = argparse.ArgumentParser(
        prog="preload.py", description="Comfy Preload on the command line.", epilog=EPILOG
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(
            name, help=text, description=f"{text[0].upper()}{text[1:]}.", epilog=EPILOG
        )
        command.add_argument("--json", action="store_true", help="answer with one JSON object")
        return command

    check = add(
        "check", "look at the settings, the model files, the storage and the memory, without starting ComfyUI"
    )
    check.add_argument(
        "--read",
        type=number,
        default=256,
        metavar="MB",
        help="read so much from each storage to measure it; 0: do not (256)",
    )
    check.add_argument(
        "--imports",
        type=number,
        default=10,
        metavar="SECONDS",
        help="how long ComfyUI itself takes to start, for the estimate (10)",
    )
    for command in (check, add("plan", "list what would be loaded, in order")):
        command.add_argument(
            "--config",
            type=Path,
            metavar="FILE",
            help="the settings; else PRELOAD_CONFIG, config/preload.yaml",
        )
        command.add_argument(
            "--workflows",
            type=Path,
            metavar="PATH",
            help="look at this workflow file, or at every one in this folder, in place of the settings",
        )
        command.add_argument(
            "--comfyui", type=Path, metavar="DIR", help="ComfyUI; else COMFYUI_PATH, two folders up"
        )
        command.add_argument("--base-directory", type=Path, metavar="DIR", help="as ComfyUI has it")
        command.add_argument("--user-directory", type=Path, metavar="DIR", help="as ComfyUI has it")
        command.add_argument(
            "--extra-model-paths-config",
            type=Path,
            nargs="+",
            action="extend",
            default=[],
            metavar="FILE",
            help="as ComfyUI has it",
        )

    for command in (
        add("trace", "start ComfyUI once, without its port, and record what it reads"),
        add("imports", "start ComfyUI once, without its port, and report what node packs and packages cost"),
    ):
        command.add_argument(
            "--comfyui", type=Path, metavar="DIR", help="ComfyUI; else COMFYUI_PATH, two folders up"
        )
        command.add_argument(
            "--python", type=Path, metavar="FILE", help="the Python that runs it; else this one"
        )
        command.add_argument(
            "--output", type=Path, metavar="FILE", help="trace: the record; else config/startup.trace"
        )
        command.add_argument(
            "--config", type=Path, metavar="FILE", help="imports: the settings with the workflows"
        )
        command.add_argument(
            "arguments", nargs="*", metavar="-- ARGUMENT", help="for ComfyUI's main.py, after --"
        )

    capture = add("capture", "write the settings for what a running ComfyUI has in its history and queue")
    capture.add_argument("url", metavar="URL", help="of ComfyUI, such as http://127.0.0.1:8188")
    capture.add_argument("--output", type=Path, metavar="FILE", help="write there instead of to the terminal")
    capture.add_argument("--force", action="store_true", help="replace that file")

    wait = add("wait", "wait until /ready says 200")
    wait.add_argument(
        "url",
        metavar="URL",
        nargs="?",
        default=os.environ.get("PRELOAD_URL") or "http://127.0.0.1:8188",
        help="of ComfyUI (default: PRELOAD_URL, else http://127.0.0.1:8188)",
    )
    wait.add_argument("--timeout", type=number, default=600, metavar="SECONDS", help="give up after (600)")
    wait.add_argument(
        "--interval", type=number, default=1, metavar="SECONDS", help="ask no more often than every (1)"
    )
    wait.add_argument("--once", action="store_true", help="ask once: for a health check")
    wait.add_argument("--quiet", action="store_true", help="only the exit code")

    convert = add("convert", "write a safetensors file again with its fp32 weights as fp16 or bf16")
    convert.add_argument("input", type=Path, metavar="IN")
    convert.add_argument("output", type=Path, metavar="OUT")
    convert.add_argument("--dtype", choices=("fp16", "bf16"), required=True)
    convert.add_argument(
        "--clamp", action="store_true", help="cut values that are too large to the largest there is"
    )
    convert.add_argument("--force", action="store_true", help="replace OUT")
    return top


def number(text: str) -> float:
    """An amount. argparse shows the name of this function where something else is written."""
    value = float(text)
    if not (math.isfinite(value) and value >= 0):
        raise ValueError
    return value


def _leave_path() -> None:
    """Python puts a script's folder first on `sys.path`.

    There our `nodes` would take the place of ComfyUI's.
    """
    sys.path[:] = [entry for entry in sys.path if not entry or Path(entry).resolve() != PLUGIN_FOLDER]
