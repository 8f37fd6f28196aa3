"""Write config/preload.schema.json, with which editors complete preload.yaml: `python -m tools.schema`."""

from __future__ import annotations

import json
from pathlib import Path

from comfy_preload.core.settings.schema import json_schema

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "config" / "preload.schema.json"


def text() -> str:
    """Return the content of the file, from core/settings/schema.py."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
    print(f"wrote {FILE.relative_to(ROOT)}")
