"""`workflows:`.

Every loader in a workflow is preloaded with its very inputs, and a warm-up leaves nothing behind but speed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.server.conftest import Comfy
from tests.support import prompts
from tests.support.comfy import ComfyServer
from tests.support.commands import carry_out
from tests.support.readings import CUSTOM_NODES, every_body, hits, misses, own_lines, rows

WORKFLOW = prompts.image(vae="taesd3", lora="tiny.safetensors", clip_device="default")
EDITOR: dict[str, Any] = {
    "version": 0.4,
    "nodes": [
        {"id": 1, "type": "VAELoader", "mode": 0, "inputs": [], "outputs": [], "widgets_values": ["taesd"]},
        {
            "id": 2,
            "type": "UNETLoader",
            "mode": 4,
            "inputs": [],
            "outputs": [],
            "widgets_values": ["other.safetensors"],
        },
    ],
    "links": [],
}


def place(base: Path, files: dict[str, Any]) -> dict[str, str]:
    """Write settings and workflow files into a folder, and return the environment that names it."""
    for name, content in files.items():
        file = base / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return {"PRELOAD_CONFIG": str(base / "preload.yaml")}


def warmups(server: ComfyServer) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in server.get("/preload").json["warmups"]}


def left_behind(server: ComfyServer) -> list[str]:
    """Files in ComfyUI's output and temp folders."""
    return [str(f) for folder in ("output", "temp") for f in (server.base / folder).rglob("*") if f.is_file()]


def test_warmed_workflow(comfy: Comfy, tmp_path: Path) -> None:
    """Loaders preloaded, the workflow run once at each size, no file and no history.

    Then its prompt hits everywhere.
    """
    text = """
models:
  - {unet: tiny.safetensors, name: base}
workflows:
  - path: flows/*.json
    warmup: true
    overrides: {sampler.seed: 7, CLIPTextEncode.text: a ship}
    shapes: [{width: 64, height: 64}, {width: 128, height: 64, batch: 2}]
"""
    server = comfy(env=place(tmp_path, {"preload.yaml": text, "flows/image.json": WORKFLOW}))
    server.wait_ready()
    assert {"base": "warm", "clip_l": "warm", "taesd3": "warm"} == {
        name: row["state"] for name, row in rows(server).items()
    }
    (warm,) = warmups(server).values()
    assert ("flows/image.json", "warm", True) == (warm["name"], warm["state"], warm["required"])
    assert ["64x64, batch 1", "128x64, batch 2"] == warm["shapes"]
    assert "float32" in warm["dtypes"] or "float16" in warm["dtypes"]
    assert warm["seconds"] > 0
    assert [] == left_behind(server)
    assert {} == server.get("/history").json

    before = hits(server)
    server.run(WORKFLOW)
    assert all(count >= before[name] for name, count in hits(server).items())
    assert {} == misses(server)
    assert "ComfyPreload_Sink" not in str(server.get("/history").json)


def test_editor_file_of_the_user(comfy: Comfy, tmp_path: Path) -> None:
    """As ComfyUI's editor saves it, where it saves it.

    A bypassed loader is not loaded; without a warm-up nothing runs.
    """
    server = comfy(env=place(tmp_path, {"preload.yaml": "workflows: [{path: workflows}]"}), wait=False)
    saved = server.base / "user" / "default" / "workflows" / "mine.json"
    saved.parent.mkdir(parents=True, exist_ok=True)
    saved.write_text(json.dumps(EDITOR), encoding="utf-8")
    server.wait_listening()
    server.wait_ready()
    assert {"taesd": "resident"} == {name: row["state"] for name, row in rows(server).items()}
    assert {} == warmups(server)
    server.run(prompts.load("VAELoader", vae_name="taesd"))
    assert {"taesd": 1} == hits(server)


def test_what_goes_wrong(comfy: Comfy, tmp_path: Path) -> None:
    """Each bad workflow is reported by its name, costs the others nothing, and shows no path."""
    broken = prompts.image() | {"decode": {"class_type": "TestRaisingLoader", "inputs": {}}}
    broken |= {"show": {"class_type": "Sink", "inputs": {"any": ["decode", 0]}}}
    text = """
workflows:
  - {path: good.json, warmup: true}
  - {path: raises.json, warmup: true, required: false}
  - {path: unknown.json, warmup: true}
  - {path: text.json}
  - {path: nowhere.json}
  - {path: good.json, warmup: true, overrides: {sampler.stepz: 1}}
  - {paht: good.json}
"""
    unknown = {
        "1": {"class_type": "FancyNode", "inputs": {}},
        "2": {"class_type": "VAELoader", "inputs": {"vae_name": "taesd"}},
        "3": {"class_type": "VAEDecode", "inputs": {"samples": ["1", 0], "vae": ["2", 0]}},
        "4": {"class_type": "Sink", "inputs": {"any": ["3", 0]}},
    }
    files = {
        "preload.yaml": text,
        "good.json": WORKFLOW,
        "raises.json": broken,
        "unknown.json": unknown,
        "text.json": "hello",
    }
    server = comfy(env=place(tmp_path, files), custom_nodes={"faults": CUSTOM_NODES / "faults"})
    answer = server.get("/ready")
    assert (503, "failed") == (answer.status, answer.json["status"])
    assert {
        "raises.json": "warmup_failed",
        "TestRaisingLoader": "load_failed",
        "unknown.json": "workflow_node_unknown",
        "text.json": "workflow_syntax",
        "nowhere.json": "workflow_missing",
        "good.json#2": "override_unknown",
        "workflows[6]": "workflow_unclear",
    } == {name: error["code"] for name, error in answer.json["failing"].items()}
    assert "stopped at node decode (TestRaisingLoader)" in answer.json["failing"]["raises.json"]["message"]
    assert "sampler.steps" in answer.json["failing"]["good.json#2"]["hint"]
    assert {"tiny", "clip_l", "taesd3", "taesd", "TestRaisingLoader"} == set(rows(server))
    assert str(tmp_path) not in every_body(server)
    assert str(server.base) not in every_body(server)
    assert [] == left_behind(server)

    (tmp_path / "preload.yaml").write_text("workflows: [{path: good.json, warmup: true}]", encoding="utf-8")
    assert "done" == carry_out(server, "reload")["state"]
    assert (200, "ready") == ((reply := server.get("/ready")).status, reply.json["status"])
    (tmp_path / "preload.yaml").write_text(
        "workflows: [{path: good.json, warmup: true}, {path: text.json}]", encoding="utf-8"
    )
    refused = carry_out(server, "reload")
    assert ("failed", "reload_kept_old") == (refused["state"], refused["error"]["code"])
    assert 200 == server.get("/ready").status, (
        "a workflow that cannot be read does not stop a replica that serves"
    )
    raising = (
        "workflows: [{path: good.json, warmup: true}, {path: raises.json, warmup: true, required: false}]"
    )
    (tmp_path / "preload.yaml").write_text(raising, encoding="utf-8")
    lacking = carry_out(server, "reload")
    assert ("failed", "reload_lacks") == (lacking["state"], lacking["error"]["code"])
    assert "TestRaisingLoader" in lacking["error"]["message"]
    assert (200, "degraded") == ((reply := server.get("/ready")).status, reply.json["status"])
    assert 1 == sum("warmed up with good.json" in line for line in own_lines(server)), (
        "no model changed: it is warm still"
    )
