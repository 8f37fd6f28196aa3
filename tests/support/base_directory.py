"""Create a ComfyUI base directory: models, custom nodes, and a copy of the plugin."""

from __future__ import annotations

import atexit
import compileall
import functools
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PLUGIN = "comfyui-preload"
# Everything else in the root without a leading dot is part of the plugin.
NOT_PLUGIN = {"bench", "deploy", "docs", "tests", "tools"}
SINK = Path(__file__).resolve().parent / "custom_nodes" / "sink"

_NO_CACHES = shutil.ignore_patterns("__pycache__")


def lay_out(base: Path, *, models: Path | None, custom_nodes: Mapping[str, str | Path]) -> None:
    """Create the folders that ComfyUI expects.

    `models` is linked, so shared; without it the folder is empty.
    """
    for name in ("custom_nodes", "input", "output", "user"):
        (base / name).mkdir(parents=True, exist_ok=True)
    if models is None:
        (base / "models").mkdir(exist_ok=True)
    else:
        (base / "models").symlink_to(models.resolve(), target_is_directory=True)
    for name, source in custom_nodes.items():
        _put_node(base / "custom_nodes" / name, source)


def put_plugin(folder: Path) -> Path:
    """Copy the plugin as a user does: files that a test writes there never change the working tree."""
    return Path(shutil.copytree(_compiled(), folder))


@functools.cache
def _compiled() -> Path:
    """Compile a copy, as an image and an earlier start do: 0.15 s of each start."""
    base = tempfile.mkdtemp(prefix="preload-plugin-")
    atexit.register(shutil.rmtree, base, ignore_errors=True)
    folder = Path(base) / PLUGIN
    folder.mkdir()
    for source in ROOT.iterdir():
        if source.name.startswith((".", "_")) and source.name != "__init__.py":
            continue
        if source.is_dir() and source.name not in NOT_PLUGIN:
            shutil.copytree(source, folder / source.name, ignore=_NO_CACHES)
        elif source.suffix == ".py" or source.name == "pyproject.toml":
            shutil.copy2(source, folder / source.name)
    compileall.compile_dir(folder, quiet=1)
    return folder


def _put_node(folder: Path, source: str | Path) -> None:
    if isinstance(source, Path):
        shutil.copytree(source, folder, ignore=_NO_CACHES)
        return
    folder.mkdir()
    (folder / "__init__.py").write_text(source, encoding="utf-8")
