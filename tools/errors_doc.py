"""Writes docs/errors.md from core/error_table.py: `python -m tools.errors_doc`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from comfy_preload.core.error_table import COMMAND_LINE, SECTIONS, ErrorKind
from comfy_preload.core.errors import problem

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "docs" / "errors.md"
_SHOWN = problem(
    "file_missing",
    line=5,
    file="flux1-dv.safetensors",
    where="in none of the 2 folders",
    folder="diffusion_models",
    suggestion="Nearest: flux1-dev.safetensors.",
)
HEAD = f"""# Errors

Every problem has a code, a message with the value found and the value expected, and a hint. `/ready` shows
them under `failing`; see [http.md](http.md). ComfyUI's log has each in one line:

```text
[preload] flux1-dv: {_SHOWN}
```

All problems are reported at once. A model that cannot be loaded never keeps ComfyUI from starting, nor the
other models from being loaded. Codes are never renamed. This page is generated from `core/error_table.py`."""


def text() -> str:
    """The file's content."""
    blocks = [HEAD]
    for section in SECTIONS:
        blocks += [f"## {section.title}", *([section.intro] if section.intro else [])]
        for code, kind in section.errors.items():
            made = problem(code, line=None, **kind.example)
            blocks += [f"### {code}", kind.meaning, f"> {made.message}"]
            extra = _exit_code(kind) if section is COMMAND_LINE else _status(kind)
            blocks.append(" ".join([made.hint, *([kind.more] if kind.more else []), *extra]))
    return "\n\n".join(blocks) + "\n"


def _status(kind: ErrorKind) -> Iterator[str]:
    if kind.status not in (400, 500):
        yield f"HTTP status {kind.status}."


def _exit_code(kind: ErrorKind) -> Iterator[str]:
    yield f"Exit code {kind.exit_code}."


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
    print(f"wrote {FILE.relative_to(ROOT)}")
