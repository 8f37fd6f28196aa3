"""POST /preload/entries: a graph in, lines of preload.yaml out, behind the gate that commands have."""

from __future__ import annotations

import json
from typing import Any

import pytest

from comfy_preload.core.settings.document import parse
from comfy_preload.core.settings.validation import validate
from comfy_preload.core.state.snapshot import Status
from tests.http.conftest import Client, Serve
from tests.support.snapshots import OpenDoor, snapshot

GRAPH = {
    "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": 'a "quoted" 模型.ckpt'}},
    "2": {"class_type": "UNETLoader", "inputs": {"unet_name": "a.sft", "weight_dtype": "fp8"}},
    "3": {"class_type": "UNETLoader", "inputs": {"unet_name": ["4", 0], "weight_dtype": "default"}},
    "4": {"class_type": "Shout", "inputs": {"text": "a", "times": 1}},
}


@pytest.fixture
async def client(serve: Serve) -> Client:
    return await serve(snapshot(Status.READY), OpenDoor())


async def test_lines(client: Client) -> None:
    """They are settings without a problem; what cannot be written is a comment."""
    reply = await client.post("/preload/entries", json={"prompt": GRAPH})
    text = await reply.text()
    assert (200, "text/plain") == (reply.status, reply.content_type)
    settings = validate(parse(f"models:\n{text}"))
    assert () == settings.problems
    assert [
        ("CheckpointLoaderSimple", {"ckpt_name": 'a "quoted" 模型.ckpt'}, ()),
        ("UNETLoader", {"unet_name": "a.sft", "weight_dtype": "fp8"}, ()),
    ] == [(entry.loader, dict(entry.inputs), entry.problems) for entry in settings.entries]
    assert "# UNETLoader is left out: " in text


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"prompt": []}, 400, "bad_request"),
        ({}, 400, "bad_request"),
        ([], 400, "bad_request"),
        ({"prompt": {}}, 400, "bad_request"),
        ({"prompt": {"1": 2}}, 400, "bad_request"),
    ],
)
async def test_bad_body(client: Client, body: Any, status: int, code: str) -> None:
    reply = await client.post(
        "/preload/entries", data=json.dumps(body), headers={"Content-Type": "application/json"}
    )
    assert (status, code) == (reply.status, (await reply.json())["error"]["code"])


@pytest.mark.parametrize(
    "headers", [{"Host": "evil.example"}, {"Origin": "http://evil.example"}, {"X-Forwarded-For": "1.2.3.4"}]
)
async def test_gate(client: Client, headers: dict[str, str]) -> None:
    reply = await client.post("/preload/entries", json={"prompt": GRAPH}, headers=headers)
    assert (403, "command_refused") == (reply.status, (await reply.json())["error"]["code"])


@pytest.mark.parametrize(("tag", "status"), [('"tag"', 200), ("tag", 200), ('"other"', 412)])
async def test_written_if_nothing_changed(client: Client, tag: str, status: int) -> None:
    """The tag of an earlier answer stands for the file that it described."""
    first = await client.post("/preload/entries", json={"prompt": GRAPH})
    assert '"tag"' == first.headers["ETag"]
    assert (
        status
        == (await client.post("/preload/entries", json={"prompt": GRAPH}, headers={"If-Match": tag})).status
    )
