"""`trace`: record what a start of ComfyUI reads, so that the next one reads it ahead."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from comfy_preload import PLUGIN_FOLDER
from comfy_preload.cli import comfyui
from comfy_preload.cli.observed_start import observe
from comfy_preload.cli.output import say, say_json
from comfy_preload.core.errors import PreloadError, problem
from comfy_preload.core.machine.startup_record import parse, write
from comfy_preload.core.text import gigabytes

DEFAULT = PLUGIN_FOLDER / "config" / "startup.trace"


def run(options: argparse.Namespace) -> int:
    """Start ComfyUI once, without its port, and write the record."""
    folder = comfyui.find(options.comfyui)
    python = options.python or Path(sys.executable)
    start = observe(python, folder, options.arguments, import_times=False)
    content = start.seen["record"]
    if content is None:
        raise PreloadError(problem("trace_unavailable", reason=start.seen["error"]))
    record = parse(content.encode())
    output = options.output or DEFAULT
    try:
        write(output, content)
    except OSError as error:
        reason = error.strerror or "not writable"
        raise PreloadError(problem("output_failed", file=output.name, reason=reason)) from error
    if options.json:
        say_json({"files": len(record.files), "bytes": record.bytes, "made_for": dict(record.made_for)})
    else:
        say(f"recorded {len(record.files)} files, {gigabytes(record.bytes)}: {output.name}")
    return 0
