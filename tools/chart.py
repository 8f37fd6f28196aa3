"""Writes what the chart and the overlays repeat: `python -m tools.chart`.

Helm and kustomize read no file outside their own folder, so some files are there twice; and README.md of the
chart lists the values, which values.yaml explains.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
CHART = ROOT / "deploy" / "helm" / "comfyui-preload"
KUSTOMIZE = ROOT / "deploy" / "kubernetes"
COPIES = {
    CHART / "files" / "alerts.yml": ROOT / "deploy" / "monitoring" / "alerts.yml",
    CHART / "files" / "dashboard.json": ROOT / "deploy" / "monitoring" / "dashboard.json",
    CHART / "files" / "copy-models.sh": KUSTOMIZE / "components" / "node-cache" / "copy-models.sh",
    KUSTOMIZE / "base" / "prune.py": CHART / "files" / "prune.py",
    KUSTOMIZE / "components" / "download" / "download_models.py": CHART / "files" / "download_models.py",
}
"""Copy: original."""
README = CHART / "README.md"
MARK = "<!-- values: written by `python -m tools.chart` -->\n"
_LINE = re.compile(r"( *)([A-Za-z]\w*):(?: (.*?))?(?:(?:^| +)# (.*))?")


class Value(NamedTuple):
    """A key of values.yaml."""

    key: str
    default: str
    meaning: str


def values(text: str) -> Iterator[Value | str]:
    """Yield the keys of values.yaml with their comments, and the headings as text.

    The comment of a key stands behind it, or in lines of its own directly above it.
    """
    path: list[str] = []
    above: list[str] = []
    for line in text.splitlines():
        if heading := re.fullmatch(r"# [-=]{3,} (.+)", line):
            above = []
            yield heading[1]
        elif comment := re.fullmatch(r" *# (.*)", line):
            above.append(comment[1])
        elif found := _LINE.fullmatch(line):
            depth = len(found[1]) // 2
            path = [*path[:depth], found[2]]
            meaning = " ".join([*above, *([found[4]] if found[4] else [])])
            above = []
            yield Value(".".join(path), (found[3] or "").strip(), meaning)
        else:
            above = []


def table(text: str) -> str:
    """Return the values as Markdown, with a table under each heading."""
    lines: list[str] = []
    for one in values(text):
        if isinstance(one, str):
            lines += ["", f"### {one}", "", "| key | default | meaning |", "|---|---|---|"]
        else:
            default = f"`{one.default}`" if one.default else ""
            lines.append(f"| `{one.key}` | {_cell(default)} | {_cell(one.meaning)} |")
    return "\n".join(lines).strip() + "\n"


def readme_text() -> str:
    """README.md as it should be: what stands above the mark, and the values."""
    above = README.read_text(encoding="utf-8").partition(MARK)[0]
    return f"{above}{MARK}\n{table((CHART / 'values.yaml').read_text(encoding='utf-8'))}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    for copy, original in COPIES.items():
        copy.write_bytes(original.read_bytes())
    README.write_text(readme_text(), encoding="utf-8")
    print(f"wrote {len(COPIES)} copies and {README.relative_to(ROOT)}")
