"""A small process with the plugin's hold, early probe and residency, without torch and ComfyUI.

`python held_process.py FOLDER`: it "loads" FOLDER/checkpoints/model.safetensors, holds at FOLDER/control,
opens its probe on loopback, and writes FOLDER/report.json. For tests/server/test_gvisor.py.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from comfy_preload.api import probe
from comfy_preload.core.machine.head_start import HeadStart
from comfy_preload.core.planning.plan import build
from comfy_preload.core.settings.document import parse
from comfy_preload.core.settings.glance import SnapshotGlance
from comfy_preload.core.settings.validation import validate
from comfy_preload.core.state.readiness import Readiness
from comfy_preload.core.state.residency import Residency
from comfy_preload.core.state.slot import Slot
from comfy_preload.core.state.startup import Startup
from comfy_preload.stages.hold import hold
from tests.support.catalogue import FOLDERS, Catalogue

PORT = 9188
EARLY = "--early-probe"


async def main(folder: Path, *, early: bool) -> None:
    """`early`: open the probe before the hold, which the plugin never does."""
    settings = validate(parse("models: [{checkpoint: model.safetensors}]"))
    (call,) = build(
        settings.entries, Catalogue({**FOLDERS, "checkpoints": ("model.safetensors",)}, folder)
    ).calls
    residency = Residency(repair=lambda _: None, usable=lambda _: "")
    residency.reset([Slot.of(call)])
    assert call.target
    residency.recall(call.target.spec, call.target.inputs, "")
    residency.keep(call.target.spec, call.target.inputs, "", ("model",))
    if early:
        probe.start(["127.0.0.1"], PORT, Readiness.idle(Startup()).snapshot)
    began = time.monotonic()
    options = SnapshotGlance(
        when="loaded", provider="dynamo", path=str(folder / "control"), environment=str(folder / "environ")
    )
    found = await hold(options, HeadStart())
    residency.stamp_again()
    if not early:
        probe.start(["127.0.0.1"], PORT, Readiness.idle(Startup()).snapshot)
    report = {
        "result": found.result.value if found else None,
        "jumped": found.jumped if found else 0.0,
        "seconds": found.seconds if found else 0.0,
        "clock": time.monotonic() - began,
        "host": socket.gethostname(),
        "variable": os.environ.get("POD_IP"),
        "random": random.random(),  # noqa: S311 — what is reseeded
        "name": Path(tempfile.mkstemp(dir=folder)[1]).name,
        "hit": residency.recall(call.target.spec, call.target.inputs, "") == ("model",),
        "threads": sorted(thread.name for thread in threading.enumerate()),
    }
    half = folder / "report.half"
    half.write_text(json.dumps(report), encoding="utf-8")
    half.rename(folder / "report.json")
    await asyncio.sleep(600)


if __name__ == "__main__":
    random.seed(1)
    asyncio.run(main(Path(sys.argv[1]), early=EARLY in sys.argv))
