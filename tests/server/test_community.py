"""Workflows and nodes as community packs have them, on a real ComfyUI with a stand-in pack.

The pack is custom_nodes/community.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.server.conftest import Comfy
from tests.server.test_workflows import left_behind, place, warmups
from tests.support import prompts
from tests.support.comfy import ComfyServer
from tests.support.commands import carry_out
from tests.support.prompts import Prompt
from tests.support.readings import CUSTOM_NODES, hits, misses, rows

PACK = {"community": CUSTOM_NODES / "community"}


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def sampling(**model: Any) -> Prompt:
    """Text to latent where the sampler is the end, with the model from the pack's loader."""
    base = prompts.image(clip_device="default")
    return {
        **{name: base[name] for name in ("clip", "positive", "negative", "latent")},
        "model": node("CommunityModelLoader", model="tiny.safetensors", **model),
        "end": node(
            "CommunitySampler",
            model=["model", 0],
            positive=["positive", 0],
            negative=["negative", 0],
            latent=["latent", 0],
            steps=2,
            image_output="Save",
        ),
    }


def fed() -> Prompt:
    return {
        **sampling(swap=["swap", 0], lora=["lora", 0], voice=["voice", 0]),
        "swap": node("CommunitySwap", blocks=["blocks", 0]),
        "blocks": node("PrimitiveInt", value=20),
        "first": node("CommunityLora", lora="tiny.safetensors"),
        "lora": node("CommunityLora", lora="tiny.safetensors", before=["first", 0]),
        "voice": node("CommunityVoiceLoader", file="tiny.safetensors"),
    }


def lines(server: ComfyServer, text: str) -> int:
    return server.log.count(text)


def test_fed_loader(comfy: Comfy, tmp_path: Path) -> None:
    """A loader that settings, lists and other models are linked to.

    Run with them, once, and its prompts hit.
    """
    server = comfy(
        env=place(tmp_path, {"preload.yaml": "workflows: [{path: w.json}]", "w.json": fed()}),
        custom_nodes=PACK,
    )
    server.wait_ready()
    said = (
        "community: loads tiny.safetensors with {'blocks': 20}, [('tiny.safetensors', 1.0), "
        "('tiny.safetensors', 1.0)], object"
    )
    assert (1, 1) == (lines(server, said), lines(server, "community: loads voice"))
    assert {"clip_l", "tiny", "tiny-2"} == set(rows(server))
    assert [] == server.get("/preload").json["not_preloaded"]

    server.run(fed())
    server.run(prompts.unrelated())
    changed = {**fed(), "blocks": node("PrimitiveInt", value=21)}
    server.run(fed())
    assert (1, 1) == (lines(server, "community: loads tiny"), lines(server, "community: loads voice"))
    assert {"clip_l": 2, "tiny": 2, "tiny-2": 2} == hits(server)
    assert {} == misses(server)
    server.run(changed)  # other settings are another call
    assert {"CommunityModelLoader": 1} == misses(server)
    assert 2 == lines(server, "community: loads tiny")

    job = carry_out(server, "reload")
    assert ("done", []) == (job["state"], job["loaded"])


def test_not_preloaded(comfy: Comfy, tmp_path: Path) -> None:
    """What cannot be preloaded is named with its node and the reason; a reload keeps saying so."""
    workflow = {
        **prompts.image(lora="tiny.safetensors"),
        "list": node("CommunityFile", lora="tiny.safetensors"),
        "dead": node("UNETLoader", unet_name="no-such-file.safetensors", weight_dtype="default"),
        "show": node("Sink", any=["list", 0]),
    }
    server = comfy(
        env=place(tmp_path, {"preload.yaml": "workflows: [{path: w.json}]", "w.json": workflow}),
        custom_nodes=PACK,
    )
    server.wait_ready()
    expected = {
        ("w.json", "lora", "LoraLoaderModelOnly", "loader_takes_model"),
        ("w.json", "dead", "UNETLoader", "workflow_node_unused"),
        ("w.json", "list", "CommunityFile", "workflow_file_inside"),
    }

    def reported() -> set[tuple[str, ...]]:
        keys = ("workflow", "node", "loader", "code")
        return {tuple(row[key] for key in keys) for row in server.get("/preload").json["not_preloaded"]}

    assert expected == reported()
    assert {"tiny", "clip_l"} == set(rows(server))
    assert "ready" == server.get("/ready").json["status"]
    assert "done" == carry_out(server, "reload")["state"]
    assert expected == reported()


def test_sampler_is_warmed(comfy: Comfy, tmp_path: Path) -> None:
    """A sampler at the end of a graph runs in the warm-up, and neither it nor its preview leaves a file."""
    text = (
        "workflows: [{path: w.json, warmup: true, overrides: {CommunitySampler.steps: 1}, shapes: "
        "[{width: 128}]}]"
    )
    server = comfy(env=place(tmp_path, {"preload.yaml": text, "w.json": sampling()}), custom_nodes=PACK)
    server.wait_ready()
    (row,) = warmups(server).values()
    assert ("warm", ["128x64, batch 1"], []) == (row["state"], row["shapes"], row["notes"])
    assert 1 == lines(server, "community: samples 1 steps, Hide")
    assert [] == left_behind(server)
    assert {"tiny": "warm", "clip_l": "warm"} == {name: one["state"] for name, one in rows(server).items()}


def test_stand_ins(comfy: Comfy, tmp_path: Path) -> None:
    """A picture and a sound that are not there are stood in for; a video is asked for; nothing is left."""
    picture = {"1": node("LoadImage", image="gone.png"), "2": node("PreviewImage", images=["1", 0])}
    mask = {"1": node("LoadImageMask", image="gone.png", channel="red"), "2": node("Sink", any=["1", 0])}
    sound = {"1": node("LoadAudio", audio="gone.wav"), "2": node("Sink", any=["1", 0])}
    video = {"1": node("LoadVideo", file="gone.mp4"), "2": node("Sink", any=["1", 0])}
    text = "workflows: [{path: good, warmup: true}, {path: video.json, warmup: true, required: false}]"
    files = {
        "good/picture.json": picture,
        "good/mask.json": mask,
        "good/sound.json": sound,
        "video.json": video,
    }
    server = comfy(env=place(tmp_path, {"preload.yaml": text, **files}))
    server.wait_ready()
    states = {name: (row["state"], (row["error"] or {}).get("code")) for name, row in warmups(server).items()}
    assert {
        "good/picture.json": ("warm", None),
        "good/mask.json": ("warm", None),
        "good/sound.json": ("warm", None),
        "video.json": ("failed", "warmup_file_missing"),
    } == states
    assert [] == left_behind(server)
    assert [] == [file.name for file in (server.base / "input").rglob("comfy_preload*")]


def test_partner_nodes_are_skipped(comfy: Comfy, tmp_path: Path) -> None:
    """That nobody is logged in at start-up is not a failure, whether the class says so or only its error."""
    files = {
        f"{kind}.json": {"1": node(kind, text="x"), "2": node("PreviewImage", images=["1", 0])}
        for kind in ("CommunityPartner", "CommunityOldPartner")
    }
    text = "workflows: [{path: '*.json', warmup: true}]"
    server = comfy(env=place(tmp_path, {"preload.yaml": text, **files}), custom_nodes=PACK)
    server.wait_ready()
    assert ("ready", {"skipped"}) == (
        server.get("/ready").json["status"],
        {row["state"] for row in warmups(server).values()},
    )
    assert [["warmup_needs_login"]] * 2 == [
        [n["code"] for n in row["notes"]] for row in warmups(server).values()
    ]


def test_limit(comfy: Comfy, tmp_path: Path) -> None:
    """A warm-up that takes too long is interrupted and reported; the others and the prompts after it run."""
    slow = {
        "1": node("EmptyImage", width=64, height=64, batch_size=1, color=0),
        "2": node("CommunitySlow", image=["1", 0]),
        "3": node("PreviewImage", images=["2", 0]),
    }
    text = """
workflows:
  - {path: slow.json, warmup: true, limit: 2, required: false}
  - {path: w.json, warmup: true}
"""
    files = {"preload.yaml": text, "slow.json": slow, "w.json": sampling()}
    server = comfy(env=place(tmp_path, files), custom_nodes=PACK)
    server.wait_ready()
    found = warmups(server)
    assert ("failed", "warmup_too_long") == (found["slow.json"]["state"], found["slow.json"]["error"]["code"])
    assert "warm" == found["w.json"]["state"]
    assert "warming up with slow.json" in server.log
    server.run(prompts.unrelated())
    assert {"success"} == {entry["status"]["status_str"] for entry in server.get("/history").json.values()}


def test_editor_only_nodes(comfy: Comfy, tmp_path: Path) -> None:
    """A file with labels, a reroute and a class that is not installed.

    Its models are loaded, nothing fails.
    """
    data = {
        "version": 0.4,
        "nodes": [
            {
                "id": 1,
                "type": "UNETLoader",
                "widgets_values": ["tiny.safetensors", "default"],
                "outputs": [{"type": "MODEL"}],
            },
            {"id": 2, "type": "Label (rgthree)"},
            {
                "id": 3,
                "type": "Reroute (rgthree)",
                "inputs": [{"name": "", "type": "*", "link": 1}],
                "outputs": [{"type": "*"}],
            },
            {"id": 4, "type": "Sink", "inputs": [{"name": "model", "link": 2}, {"name": "any", "link": 3}]},
            {"id": 5, "type": "Their Node", "widgets_values": [1], "outputs": [{"type": "THING"}]},
        ],
        "links": [[1, 1, 0, 3, 0, "*"], [2, 3, 0, 4, 0, "*"], [3, 5, 0, 4, 1, "*"]],
    }  # fmt: skip
    server = comfy(
        env=place(tmp_path, {"preload.yaml": "workflows: [{path: w.json, warmup: true}]", "w.json": data})
    )
    answer = server.wait_ready()
    assert ("ready", {}) == (answer.json["status"], answer.json["failing"])
    assert {"tiny": "warm"} == {name: one["state"] for name, one in rows(server).items()}
    assert "its class 'Their Node' is not installed" in server.log
