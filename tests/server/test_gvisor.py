"""A process that gVisor really copies and restores: a small one here, a whole ComfyUI in `make nightly`.

Needs root and Debian's package `runsc`. Its version of 2022 has no /proc/gvisor/checkpoint: the process uses
Dynamo's files, and the test calls `runsc checkpoint` and `runsc restore` in the platform's place.
"""

from __future__ import annotations

import json
import logging
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import gvisor, held_process
from tests.support.comfy import SINK, ComfyServer
from tests.support.gvisor import Sandbox
from tools.host import ROOT, comfyui_path, comfyui_python

log = logging.getLogger(__name__)
SCRIPT = Path(held_process.__file__)
CLIENT = """
import sys, urllib.request
print(urllib.request.urlopen("http://127.0.0.1:" + sys.argv[1], timeout=60).read().decode())
"""


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """What the sandbox may write to."""
    if reason := gvisor.missing():
        pytest.skip(reason)
    folder = tmp_path / "work"
    (folder / "control").mkdir(parents=True)
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "model.safetensors").write_bytes(bytes(1 << 20))
    (folder / "environ").write_text("POD_IP=10.0.0.1\n", encoding="utf-8")
    return folder


@pytest.fixture
def sandbox(work: Path, tmp_path: Path) -> Iterator[Sandbox]:
    (tmp_path / "sandbox").mkdir()
    command = [sys.executable, str(SCRIPT), str(work)]
    with Sandbox(tmp_path / "sandbox", command, writable=work, cwd=ROOT) as made:
        yield made


def is_held(work: Path) -> bool:
    return (work / "control" / "ready-for-checkpoint").exists()


def restored(sandbox: Sandbox, work: Path, name: str) -> dict[str, Any]:
    """Start a copy as `name` in a place where some things are different. Return what it reports."""
    (work / "environ").write_text(f"POD_IP=10.0.0.{name}\n", encoding="utf-8")
    (work / "control" / "restore-complete").touch()
    sandbox.restore(name)
    sandbox.wait((work / "report.json").exists, "restored")
    report: dict[str, Any] = json.loads((work / "report.json").read_text(encoding="utf-8"))
    (work / "report.json").unlink()
    return report


def test_two_copies(sandbox: Sandbox, work: Path) -> None:
    """Both know their place, hit the model, and draw other random numbers; a long pause uses up no limit."""
    sandbox.run("1")
    sandbox.wait(lambda: is_held(work), "held")
    model = work / "checkpoints" / "model.safetensors"
    before = model.stat().st_ino
    assert sandbox.checkpoint("1") > 100_000
    frozen = time.monotonic()
    kept = {name: (work / "control" / name) for name in ("ready-for-checkpoint", "ready-for-snapshot")}
    other = model.with_suffix(".copy")
    shutil.copy2(model, other)
    other.replace(model)
    assert before != model.stat().st_ino
    time.sleep(max(0.0, 3.0 - (time.monotonic() - frozen)))  # for the clock to jump by more than a step

    reports = [restored(sandbox, work, name) for name in ("2", "3")]

    for name, report in zip(("2", "3"), reports, strict=True):
        assert ("restored", True) == (report["result"], report["hit"])
        assert f"10.0.0.{name}" == report["variable"]
        assert report["clock"] == pytest.approx(report["seconds"] + report["jumped"], abs=1.0)
        assert '"status"' in sandbox.ask(name, sys.executable, "-c", CLIENT, f"{held_process.PORT}/livez")
    assert 2 == len({report["random"] for report in reports}) == len({report["name"] for report in reports})
    assert not any(path.exists() for path in kept.values())


ASK = """
import json, sys, time
sys.path.insert(0, sys.argv[1])
from tests.support import prompts
from tests.support.reply import ask
url = sys.argv[2]
def there(path, good):
    while True:
        try:
            reply = ask(url + path)
        except OSError:
            reply = None
        if reply and good(reply):
            return reply
        time.sleep(0.05)
there("/ready", lambda reply: reply.status == 200)
prompt = ask(url + "/prompt", method="POST", body={"prompt": prompts.image()}).json["prompt_id"]
done = there("/history/" + prompt, lambda reply: prompt in reply.json)
print(json.dumps({**ask(url + "/preload").json, "done": done.json[prompt]["status"]["status_str"]}))
"""


@pytest.mark.soak
@pytest.mark.parametrize("when", ["imports", "loaded"])
def test_comfyui(work: Path, models: Path, tmp_path: Path, when: str) -> None:
    """A whole ComfyUI, copied and restored in another sandbox: the first prompt hits."""
    text = (
        f"snapshot: {{when: {when}, environment: '{work / 'environ'}'}}\n"
        f"probe: {{port: {held_process.PORT}}}\n"
        "models: [{unet: tiny.safetensors}, {clip: clip_l.safetensors, type: sd3}]\n"
    )
    comfy = ComfyServer(
        work / "comfy",
        host=comfyui_path(),
        python=comfyui_python(),
        preload=text,
        models=models,
        custom_nodes={"sink": SINK},
        env={"TMPDIR": str(work), "SNAPSHOT_CONTROL_DIR": str(work / "control"), "HOME": str(work)},
    )
    (tmp_path / "sandbox").mkdir()
    with Sandbox(tmp_path / "sandbox", comfy.command, writable=work, cwd=comfyui_path()) as sandbox:
        began = time.monotonic()
        sandbox.run("1", env=comfy.env)
        sandbox.wait(lambda: is_held(work), "held", deadline=200)
        held = time.monotonic()
        size = sandbox.checkpoint("1")
        copied = time.monotonic()
        (work / "control" / "restore-complete").touch()
        sandbox.restore("2", env=comfy.env)
        found = json.loads(
            sandbox.ask("2", sys.executable, "-I", "-c", ASK, str(ROOT), comfy.url, timeout=250).splitlines()[
                -1
            ]
        )
        ended = time.monotonic()

    seconds = (held - began, copied - held, ended - copied)
    log.info("%s: held after %.1f s, copied in %.1f s, restored and one prompt in %.1f s", when, *seconds)
    log.info("%s: %d bytes", when, size)
    assert ("restored", "success") == (found["snapshot"]["result"], found["done"])
    assert ({}, 2) == (found["misses"], found["hits"])


def test_open_listener(work: Path, tmp_path: Path) -> None:
    """Why nothing may listen during the hold: this gVisor cannot copy the process, and it is lost."""
    (tmp_path / "sandbox").mkdir()
    command = [sys.executable, str(SCRIPT), str(work), held_process.EARLY]
    with Sandbox(tmp_path / "sandbox", command, writable=work, cwd=ROOT) as sandbox:
        sandbox.run("1")
        sandbox.wait(lambda: is_held(work), "held")
        assert "9188 (LISTEN)" in sandbox.log
        with pytest.raises(RuntimeError, match="checkpoint"):
            sandbox.checkpoint("1")
