"""Record how ComfyUI's editor converts its templates: `python tools/template_truth.py record` (a minute).

Starts the ComfyUI of `tools/host.py`, opens its page in Chromium, lets the editor convert each template that
this ComfyUI pins, and writes the facts that `tests/server/test_templates.py` compares with:
tests/support/template_loaders.json. Needs playwright (`pip install playwright`) and Debian's chromium, or
another named with --chromium.

`compare` prints for how many templates our own result is the same: loader calls, and whole prompts.
"""

from __future__ import annotations

import argparse
import importlib
import json
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support import templates
from tools import host as hosts

ROOT = Path(__file__).resolve().parents[1]
SWITCHES = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
READY = "window.app && app.graph && app.canvas && Object.keys(LiteGraph.registered_node_types).length > 100"
CONVERT = (
    "async (json) => { await app.loadGraphData(json, true, false); return (await "
    "app.graphToPrompt()).output }"
)


@contextmanager
def server(host: Path, python: Path) -> Iterator[str]:
    """Run that ComfyUI with its API nodes and without custom nodes, in its own base directory.

    Yield its address.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as base:
        command = [
            *(str(python), str(host / "main.py"), "--cpu", "--port", str(port), "--base-directory", base),
            *("--disable-all-custom-nodes", "--database-url", f"sqlite:///{base}/comfyui.db"),
        ]
        with (Path(base) / "log").open("wb") as log:
            process = subprocess.Popen(command, cwd=host, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            address = f"http://127.0.0.1:{port}"
            _await(address, process)
            yield address
        finally:
            process.terminate()
            process.wait(30)


def _await(address: str, process: subprocess.Popen[bytes], seconds: float = 180) -> None:
    end = time.monotonic() + seconds
    while not _answers(address):
        if process.poll() is not None or time.monotonic() > end:
            sys.exit("ComfyUI did not start")
        time.sleep(0.5)


def _answers(address: str) -> bool:
    try:
        urllib.request.urlopen(f"{address}/system_stats", timeout=5).close()  # noqa: S310 — http, to ourselves
    except OSError:
        return False
    return True


def converted(address: str, folder: Path, chromium: str) -> dict[str, Any]:
    """Return the prompt that the editor creates from each template, by name."""
    try:
        sync_playwright = importlib.import_module("playwright.sync_api").sync_playwright
    except ImportError:
        sys.exit("this needs playwright: pip install playwright")
    prompts: dict[str, Any] = {}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=SWITCHES)
        page = browser.new_page()
        page.goto(address)
        page.wait_for_function(READY, timeout=120_000)
        page.wait_for_timeout(4000)  # extensions register their nodes last, without any signal
        for path in sorted(folder.glob("*.json")):
            workflow = json.loads(path.read_text(encoding="utf-8"))
            if isinstance(workflow, dict) and "nodes" in workflow:
                prompts[path.stem] = page.evaluate(CONVERT, workflow)
        browser.close()
    return prompts


def version_of(address: str) -> str:
    with urllib.request.urlopen(f"{address}/system_stats", timeout=5) as answer:  # noqa: S310 — http, to ourselves
        return str(json.load(answer)["system"]["comfyui_version"])


def record(host: Path, python: Path, chromium: str, target: Path) -> None:
    """Write the facts, one line per template."""
    version = templates.pinned(host)
    folder = templates.fetch(version)
    with server(host, python) as address:
        running = version_of(address)
        prompts = converted(address, folder, chromium)
    with tempfile.TemporaryDirectory() as made:
        file = Path(made) / "prompts.json"
        file.write_text(json.dumps(prompts), encoding="utf-8")
        found = templates.facts(host, python, file)
    head = json.dumps({"comfyui": running, "templates": version})[1:-1]
    rows = [f"{json.dumps(name)}: {json.dumps(found[name], separators=(',', ':'))}" for name in sorted(found)]
    target.write_text("{" + head + ', "facts": {\n' + ",\n".join(rows) + "\n}}\n", encoding="utf-8")
    print(f"{len(rows)} templates -> {target.name}")


def compare(host: Path, python: Path, target: Path) -> None:
    """Print the shares and the templates that differ."""
    recorded = json.loads(target.read_text(encoding="utf-8"))
    expected = recorded["facts"]
    begun = time.monotonic()
    found = templates.facts(host, python, templates.fetch(recorded["templates"]))
    seconds = time.monotonic() - begun
    calls = sum(len(facts["loaders"]) for facts in expected.values())
    print(
        f"ComfyUI {recorded['comfyui']}, templates {recorded['templates']}, {calls} loader calls "
        f"({seconds:.0f} s)"
    )
    for what in ("loaders", "prompt"):
        differ = [name for name in expected if found.get(name, {}).get(what) != expected[name][what]]
        same = len(expected) - len(differ)
        print(f"{what}: {same} of {len(expected)} the same ({same / len(expected):.1%})", *differ, sep="\n  ")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description="What ComfyUI's editor makes of its templates, and what we do."
    )
    parser.add_argument("command", choices=["record", "compare"])
    parser.add_argument("--chromium", default="/usr/bin/chromium", help="the browser (record)")
    parser.add_argument(
        "--facts", type=Path, default=templates.FACTS, help="the file to write or to compare with"
    )
    words = parser.parse_args()
    if words.command == "record":
        record(hosts.comfyui_path(), hosts.comfyui_python(), words.chromium, words.facts)
    else:
        compare(hosts.comfyui_path(), hosts.comfyui_python(), words.facts)


if __name__ == "__main__":
    main()
