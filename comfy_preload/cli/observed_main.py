"""Is the start that `observed_start.py` observes: run by ComfyUI's own Python, as a script.

    observed_main.py FOLDER ANSWER MAIN [ARGUMENT …]

Runs ComfyUI's main.py with `--quick-test-for-ci`, which ends the process after all nodes are registered and
before the port opens (main.py, 0.3.64 to 0.33.0), and writes what it saw to ANSWER as JSON. The plugin's
package is imported only after that: on `sys.path` its folder would let our `nodes` shadow ComfyUI's.
"""

from __future__ import annotations

import json
import runpy
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def main(words: Sequence[str]) -> None:
    """Be that start."""
    folder, answer, script, *arguments = words
    began = time.perf_counter()
    sys.path[0] = str(Path(script).parent)
    sys.argv = [script, *arguments, "--quick-test-for-ci"]
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as ended:
        if ended.code not in (None, 0):
            raise
    seconds = time.perf_counter() - began
    sys.path.append(folder)
    Path(answer).write_text(json.dumps({"seconds": seconds, **look(Path(script).parent)}), encoding="utf-8")


def look(comfyui: Path) -> dict[str, Any]:
    """Return the start-up record (or why there is none), each node class's pack, and each package's bytes.

    Source: `RELATIVE_PYTHON_MODULE` and `LOADED_MODULE_DIRS` (nodes.py, 0.3.75 and 0.33.0).
    """
    from comfy_preload.core.machine import startup_record, startup_trace

    found: dict[str, Any] = {"record": None, "error": None, "bytes": {}}
    try:
        record = startup_trace.trace(startup_record.versions(comfyui))
    except OSError as error:
        found["error"] = error.strerror or type(error).__name__
    else:
        found["record"] = startup_record.text(record)
        for path, parts in record.files.items():
            package = startup_trace.package_of(path)
            found["bytes"][package] = found["bytes"].get(package, 0) + sum(b - a for a, b in parts)
    nodes: Any = sys.modules["nodes"]
    found["classes"] = {
        str(name): str(getattr(cls, "RELATIVE_PYTHON_MODULE", "nodes"))
        for name, cls in nodes.NODE_CLASS_MAPPINGS.items()
    }
    found["packs"] = {str(name): str(path) for name, path in nodes.LOADED_MODULE_DIRS.items()}
    return found


if __name__ == "__main__":
    main(sys.argv[1:])
