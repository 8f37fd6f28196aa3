"""ComfyUI's own API in front of two replicas: where prompts go, what comes back, what is refused."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import urllib.request
from typing import Any
from urllib.parse import urlencode

import aiohttp
import pytest

from tests.ray.cluster import Cluster, nap
from tests.support import prompts

SET = "serve_multiplexed_model_id"


def image(number: int, seed: int = 0) -> dict[str, Any]:
    """An image with the model of the set a, b or c."""
    return prompts.image(unet=f"m{number}.safetensors", vae="taesd3", seed=seed)


def finished(cluster: Cluster, prompt_id: str) -> dict[str, Any]:
    """Poll /history as clients do, and return the entry."""
    cluster.wait(lambda: bool(cluster.get(f"/history/{prompt_id}").json), f"{prompt_id} is done")
    entry: dict[str, Any] = cluster.get(f"/history/{prompt_id}").json[prompt_id]
    return entry


def test_first_sets(cluster: Cluster) -> None:
    """Each replica begins with another set."""
    assert [["a"], ["b"]] == sorted(cluster.wait_replicas(2).values())


@pytest.mark.parametrize(("number", "name"), [(0, "a"), (1, "b")])
def test_client_of_comfyui(cluster: Cluster, number: int, name: str) -> None:
    """A prompt goes where its models are; its id leads to its entry, and the entry to the image."""
    reply = cluster.post("/prompt", {"prompt": image(number, seed=1)})

    assert (200, name, "true") == (reply.status, reply.headers["x-set"], reply.headers["x-warm"])
    assert cluster.holder(name) == reply.headers["x-replica"]
    entry = finished(cluster, reply.json["prompt_id"])
    assert "success" == entry["status"]["status_str"]
    (file,) = entry["outputs"]["preview"]["images"]
    with urllib.request.urlopen(f"{cluster.url}/api/view?{urlencode(file)}") as answer:  # noqa: S310 — http to loopback
        assert "image/png" == answer.headers["Content-Type"]
        assert answer.read().startswith(b"\x89PNG")
    assert reply.json["prompt_id"] in cluster.get("/history").json


def test_always_warm(cluster: Cluster) -> None:
    """Two sets in turn, each prompt on the replica that holds its set."""
    replies = [cluster.post("/run", {"prompt": image(i % 2, seed=10 + i)}) for i in range(6)]

    assert {(200, "true")} == {(reply.status, reply.headers["x-warm"]) for reply in replies}
    assert {cluster.holder("a"), cluster.holder("b")} == {reply.headers["x-replica"] for reply in replies}


def test_set_that_nobody_holds(cluster: Cluster) -> None:
    """One replica loads it in place of its own, and keeps it; /preload says so, and the sets come back."""
    first, second = (cluster.post("/run", {"prompt": image(2, seed=i)}) for i in range(2))

    assert [(200, "false"), (200, "true")] == [(r.status, r.headers["x-warm"]) for r in (first, second)]
    assert first.headers["x-replica"] == second.headers["x-replica"]
    cluster.wait(lambda: ["c"] in cluster.replicas().values(), "a replica reports the set c")
    assert cluster.holder("a") != cluster.holder("b")


def test_run_inline(cluster: Cluster) -> None:
    """POST /run waits, and its answer has the images."""
    (file,) = cluster.post("/run?images=inline", {"prompt": image(0, seed=4)}).json["outputs"]["preview"][
        "images"
    ]
    assert base64.b64decode(file["data"]).startswith(b"\x89PNG")


async def test_progress(cluster: Cluster) -> None:
    """The WebSocket of the client has the messages of its prompt, to the last."""
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{cluster.url}/ws?clientId=me") as socket,
    ):
        assert "me" == (await socket.receive_json())["data"]["sid"]
        async with session.post(
            f"{cluster.url}/prompt", json={"prompt": image(0, seed=5), "client_id": "me"}
        ) as answer:
            prompt_id = (await answer.json())["prompt_id"]
        heard: list[dict[str, Any]] = []
        while not heard or heard[-1].get("data", {}).get("node", "") is not None:
            message = await socket.receive(timeout=60)
            if message.type is aiohttp.WSMsgType.TEXT:
                heard.append(json.loads(message.data))
    kinds = [one["type"] for one in heard]
    assert {"status", "execution_start", "progress", "executed", "execution_success"} <= set(kinds)
    assert {prompt_id} == {one["data"]["prompt_id"] for one in heard if "prompt_id" in one["data"]}
    (executed,) = [one["data"]["output"] for one in heard if one["type"] == "executed"]
    assert executed["images"][0]["subfolder"].startswith("replica-")


def test_upload(cluster: Cluster) -> None:
    """An uploaded image is there for prompts on every replica."""
    png = base64.b64decode(
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    )
    head = (
        '--x\r\nContent-Disposition: form-data; name="image"; filename="dot.png"\r\nContent-Type: '
        "image/png\r\n\r\n"
    )
    request = urllib.request.Request(  # noqa: S310 — http to loopback
        f"{cluster.url}/upload/image",
        data=head.encode() + png + b"\r\n--x--\r\n",
        headers={"Content-Type": "multipart/form-data; boundary=x"},
    )
    with urllib.request.urlopen(request) as answer:  # noqa: S310 — see above
        name = json.load(answer)["name"]
    for held in "ab":
        prompt = {
            "load": {"class_type": "LoadImage", "inputs": {"image": name}},
            "save": {"class_type": "PreviewImage", "inputs": {"images": ["load", 0]}},
        }
        assert 200 == cluster.post("/run", {"prompt": prompt}, {SET: held}).status


def test_queue_delete_and_interrupt(cluster: Cluster) -> None:
    """/queue has the prompts of all replicas.

    One is deleted by its id, one that runs is interrupted by its own.
    """
    sent = {
        mark: cluster.post("/prompt", {"prompt": nap(mark, 3.0)}, {SET: "a"}).json["prompt_id"]
        for mark in ("runs", "waits")
    }
    cluster.wait(lambda: "runs" in cluster.naps, "the first prompt runs")
    queue = cluster.get("/queue").json
    assert [[sent["runs"]], [sent["waits"]]] == [
        [item[1] for item in queue[k]] for k in ("queue_running", "queue_pending")
    ]

    assert 200 == cluster.post("/queue", {"delete": [sent["waits"]]}).status
    assert 200 == cluster.post("/interrupt", {"prompt_id": sent["runs"]}).status

    assert {"success", "error"} >= {finished(cluster, sent["runs"])["status"]["status_str"]}
    cluster.wait(
        lambda: cluster.get("/prompt").json["exec_info"]["queue_remaining"] == 0, "nothing is under way"
    )
    assert "waits" not in cluster.naps


@pytest.mark.parametrize(
    ("path", "body", "name", "refused"),
    [
        ("/prompt", {"prompt": {}}, "nobody", (404, "set_unknown")),
        ("/run", {"prompt": {}}, "../a", (404, "set_unknown")),
        ("/prompt", [], None, (400, "invalid_json")),
        ("/interrupt", 3, None, (400, "invalid_json")),
        ("/run?images=all", {"prompt": {}}, None, (400, "images_unknown")),
        (
            "/prompt",
            {"prompt": {"1": {"class_type": "Unknown", "inputs": {}}}},
            None,
            (400, "invalid_prompt"),
        ),
        ("/run", {"prompt": {"1": {"class_type": "Unknown", "inputs": {}}}}, "a", (400, "invalid_prompt")),
        ("/prompt", {}, None, (400, "no_prompt")),
        ("/prompt", {"prompt": {}}, "huge", (500, "set_failed")),
        (
            "/run",
            {"prompt": prompts.load("UNETLoader", unet_name="huge.safetensors")},
            None,
            (500, "set_failed"),
        ),
        ("/prompt", {"prompt": {}}, "absent", (500, "set_failed")),
    ],
)
def test_refused(cluster: Cluster, path: str, body: Any, name: str | None, refused: tuple[int, str]) -> None:
    """Bad requests are answered in ComfyUI's own form, without a path of the machine."""
    reply = cluster.post(path, body, {SET: name} if name else {})

    assert refused == (reply.status, reply.json["error"]["type"])
    assert str(cluster.folder) not in reply.text


def test_failed_set_takes_nothing(cluster: Cluster) -> None:
    """After a set that is too large, each replica holds what it held, and says why without trying again."""
    assert cluster.holder("a") != cluster.holder("b")

    replies = [cluster.post("/prompt", {"prompt": {}}, {SET: "huge"}) for _ in range(3)]

    assert all("2,199" in reply.json["error"]["message"] for reply in replies)
    cluster.wait(lambda: sorted(cluster.replicas().values()) == [["a"], ["b"]], "a and b are held")


@pytest.mark.parametrize(
    "path",
    [
        "/preload/reload",
        "/api/preload/release",
        "/preload/sleep",
        "/free",
        "/preload/entries",
        "/userdata/x",
        "/settings",
    ],
)
def test_not_passed_on(cluster: Cluster, path: str) -> None:
    """What would change a replica for everyone, or is for the editor, is not there."""
    assert 404 == cluster.post(path, {}).status


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({"filename": "x.png"}, 404),
        ({"filename": "x.png", "subfolder": "replica-000000000000"}, 404),
        ({"filename": "x.png", "subfolder": "replica-http://127.0.0.1:1/"}, 404),
        ({"filename": "../../preload.yaml", "subfolder": "replica-TAG"}, 400),
        ({"filename": "preload.yaml", "subfolder": "replica-TAG/.."}, 403),
        ({"filename": "preload.yaml", "subfolder": "..", "type": "input"}, 403),
    ],
)
def test_view_refused(cluster: Cluster, query: dict[str, str], status: int) -> None:
    """Only files of a replica that is there, and only in its own folders."""
    tag = min(cluster.wait_replicas(2))
    query = {key: value.replace("TAG", tag) for key, value in query.items()}
    assert status == cluster.get(f"/view?{urlencode(query)}").status


def test_client_goes_away(cluster: Cluster) -> None:
    """A prompt of POST /run whose client left is taken from the queue; it never runs."""
    first = cluster.post("/prompt", {"prompt": nap("stays", 3.0)}, {SET: "b"}).json["prompt_id"]
    body = json.dumps({"prompt": nap("left", 0.0)}).encode()
    host, port = cluster.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as client:
        client.sendall(
            f"POST /run HTTP/1.1\r\nHost: x\r\n{SET}: b\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        cluster.wait(lambda: len(cluster.get("/queue").json["queue_pending"]) == 1, "the prompt waits")
    cluster.wait(lambda: not cluster.get("/queue").json["queue_pending"], "the prompt is gone")

    assert "success" == finished(cluster, first)["status"]["status_str"]
    assert "stays" in cluster.naps
    assert "left" not in cluster.naps


async def test_more_than_the_queue_holds(cluster: Cluster) -> None:
    """What the bounded queue holds is run, once each; the rest is answered 503 with Retry-After."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def send(number: int) -> tuple[int, str | None]:
            body = {"prompt": nap(f"many-{number}", 0.0)}
            async with session.post(
                f"{cluster.url}/run", json=body, headers={SET: "ab"[number % 2]}
            ) as answer:
                await answer.read()
                return answer.status, answer.headers.get("Retry-After")

        for number in range(1000, 1004):  # so that each replica has a set of its own, and Serve knows it
            assert (200, None) == await send(number)
        answers = await asyncio.gather(*(send(number) for number in range(300)))

    run = [name for name in cluster.naps if name.startswith("many-") and int(name[5:]) < 1000]
    assert {(200, None), (503, "5")} == set(answers)
    assert len(set(run)) == len(run) == answers.count((200, None))
    assert 30 <= len(run) < 300
