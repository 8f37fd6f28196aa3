"""Write config/preload.schema.json, with which editors complete preload.yaml, and the chart's copy of it.

Run it as `python -m tools.schema`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from comfy_preload.core.settings.schema import json_schema

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "config" / "preload.schema.json"
VALUES = ROOT / "deploy" / "helm" / "comfyui-preload" / "values.schema.json"
PREFIX = "settings_"
"""Of the definitions that come from the plugin, in VALUES."""


def text() -> str:
    """Return the content of the file, from core/settings/schema.py."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


def values_text() -> str:
    """The content of VALUES: what stands there, with the plugin's schema for `preload` in it."""
    values = json.loads(VALUES.read_text(encoding="utf-8"))
    own = {name: one for name, one in values["$defs"].items() if not name.startswith(PREFIX)}
    schema = _renamed(json_schema())
    inner = schema.pop("$defs")
    del schema["$schema"]
    schema["properties"]["when"] = {
        "enum": ["startup", "background", "off", False]
    }  # YAML 1.1 reads off as false
    values["$defs"] = {
        **own,
        f"{PREFIX}root": schema,
        **{f"{PREFIX}{name}": one for name, one in inner.items()},
    }
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"


def _renamed(value: Any) -> Any:
    """References lead to the names that the definitions have in VALUES; titles and defaults are left out."""
    if isinstance(value, list):
        return [_renamed(one) for one in value]
    if not isinstance(value, dict):
        return value
    kept = {
        key: one
        for key, one in value.items()
        if not (key in ("title", "default") and not isinstance(one, dict))
    }
    found = {key: _renamed(one) for key, one in kept.items()}
    if isinstance(found.get("$ref"), str):
        found["$ref"] = found["$ref"].replace("#/$defs/", f"#/$defs/{PREFIX}")
    return found


if __name__ == "__main__":
    for file, content in ((FILE, text()), (VALUES, values_text())):
        file.write_text(content, encoding="utf-8")
        print(f"wrote {file.relative_to(ROOT)}")
