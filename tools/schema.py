"""Writes config/preload.schema.json, which editors complete preload.yaml with: `python tools/schema.py`."""

from __future__ import annotations

import importlib
import json
import sys
import types
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "config" / "preload.schema.json"


def text() -> str:
    """The file's content, from core/schema.py."""
    package = types.ModuleType("preload_plugin")
    package.__path__ = [str(ROOT)]
    sys.modules.setdefault("preload_plugin", package)
    schema = importlib.import_module("preload_plugin.core.schema").json_schema()
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
    print(f"wrote {FILE.relative_to(ROOT)}")
