"""A hold before the port opens, in a real ComfyUI.

The test plays the platform: it answers in the control directory after it has changed what a restore changes.
Nothing is frozen; tests/server/test_gvisor.py does that.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.server.conftest import Comfy
from tests.support import models as tiny
from tests.support import prompts
from tests.support.comfy import LOOPBACK, ComfyServer, free_port
from tests.support.readings import hits, misses, poison, rows
from tests.support.reply import ask

READY = "ready-for-checkpoint"
OWN_HOST_NAME = "import ctypes\nctypes.CDLL(None).unshare(0x04000000)\nNODE_CLASS_MAPPINGS = {}\n"
"""A node pack that gives the process a host name of its own (CLONE_NEWUTS), where it may."""
OLD, NEW = "o" * 32, "n" * 32
"""Tokens."""


@pytest.fixture
def control(tmp_path: Path) -> Path:
    folder = tmp_path / "control"
    folder.mkdir()
    return folder


def listens(port: int) -> bool:
    with socket.socket() as one:
        one.settimeout(1)
        return one.connect_ex((LOOPBACK, port)) == 0


def held(comfy: Comfy, control: Path, text: str, **options: Any) -> ComfyServer:
    """Start a server and wait until it is held."""
    env = {"DYN_SNAPSHOT_CONTROL_DIR": str(control), **options.pop("env", {})}
    server = comfy(preload=text, env=env, wait=False, **options)
    server.wait((control / READY).exists, "held")
    return server


def outcome(server: ComfyServer) -> dict[str, Any]:
    found: dict[str, Any] = server.get("/preload").json["snapshot"]
    return found


def inet_sockets(pid: int) -> int:
    """How many sockets of the process are TCP or UDP."""
    links = [str(one.readlink()) for one in Path(f"/proc/{pid}/fd").iterdir() if one.is_symlink()]
    inodes = {link[8:-1] for link in links if link.startswith("socket:[")}
    rows = [
        row.split()
        for name in ("tcp", "tcp6", "udp", "udp6")
        for row in Path(f"/proc/{pid}/net/{name}").read_text(encoding="utf-8").splitlines()[1:]
    ]
    return sum(row[9] in inodes for row in rows)


def rename(pid: int, name: str) -> bool:
    """Give the process another host name, if it has one of its own."""
    own = Path(f"/proc/{pid}/ns/uts").readlink() != Path("/proc/self/ns/uts").readlink()
    if own:
        subprocess.run(["nsenter", "--uts", f"--target={pid}", "hostname", name], check=True)
    return own


def renumber(path: Path) -> None:
    """Give the file another inode; size and date stay. Opening it fails from now on."""
    before = path.stat().st_ino
    other = path.with_suffix(".copy")
    shutil.copy2(path, other)
    poison(path.parent, [other.name])
    other.replace(path)
    assert before != path.stat().st_ino


def test_restore(comfy: Comfy, control: Path, own_models: Path, tmp_path: Path) -> None:
    """Held after loading.

    Nothing listens meanwhile. Then: models whose files have other inodes are kept, one whose file is another
    is loaded again; variables, token, host name, probe port and settings are those of the new place.
    """
    variables, port, moved = tmp_path / "environ", free_port(), free_port()
    variables.write_bytes(f"POD_IP=10.0.0.1\0PRELOAD_TOKEN={OLD}\0GONE=1\0".encode())
    text = f"""
snapshot: {{when: loaded, environment: '{variables}'}}
probe: {{port: {port}}}
registry: {{redis: 'redis://127.0.0.1:{free_port()}', advertise: 'http://${{POD_IP}}:8188'}}
models:
  - unet: tiny.safetensors
  - unet: other.safetensors
  - {{clip: clip_l.safetensors, type: sd3}}
"""
    server = held(
        comfy,
        control,
        text,
        models=own_models,
        env={"POD_IP": "10.0.0.1", "PRELOAD_TOKEN": OLD, "GONE": "1"},
        custom_nodes={"host_name": OWN_HOST_NAME},
    )
    assert server.pid
    assert [False, False, 0] == [listens(server.port), listens(port), inet_sockets(server.pid)]
    assert "loaded clip_l" in server.log

    renumber(own_models / "diffusion_models" / "tiny.safetensors")
    renumber(own_models / "text_encoders" / "clip_l.safetensors")
    other = own_models / "diffusion_models" / "other.safetensors"
    other.unlink()
    tiny.tiny_unet(other, seed=7)
    variables.write_bytes(f"POD_IP=10.0.0.2\0PRELOAD_TOKEN={NEW}\0".encode())
    settings = server.base / "preload.yaml"
    settings.write_text(text.replace(f"port: {port}", f"port: {moved}") + "drain: 7\n", encoding="utf-8")
    renamed = rename(server.pid, "restored-host")
    (control / "restore-complete").touch()

    server.wait_ready()
    found = outcome(server)
    assert ("loaded", "dynamo", "restored", None) == tuple(
        found[key] for key in ("when", "provider", "result", "error")
    )
    assert found["restored"]
    assert [] == list(control.iterdir())
    (job,) = server.get("/preload").json["jobs"]
    assert ("restore", "done", ["other"], {"tiny", "clip_l"}) == (
        job["reason"],
        job["state"],
        job["loaded"],
        set(job["kept"]),
    )
    server.run(prompts.image())
    assert {"tiny": 1, "other": 0, "clip_l": 1} == hits(server)
    assert {} == misses(server)
    server.run(prompts.image(unet="other.safetensors"))
    assert {} == misses(server)
    assert [200, False] == [ask(f"http://{LOOPBACK}:{moved}/ready").status, listens(port)]
    replica = server.get("/preload/replicas").json
    assert "http://10.0.0.2:8188" == replica["replicas"][0]["address"]
    assert not renamed or replica["id"] == "restored-host:8188"
    assert [401, 202] == [command(server, OLD), command(server, NEW)]


def command(server: ComfyServer, token: str) -> int:
    """The status of a command that only the token admits: a browser's origin closes the loopback way."""
    headers = {"Authorization": f"Bearer {token}", "X-Forwarded-For": "10.0.0.9"}
    return server.post("/preload/wake", headers=headers).status


def test_copied(comfy: Comfy, control: Path) -> None:
    """Held after the imports, then copied: this process goes on, loads its models, and its probe opens."""
    port = free_port()
    server = held(
        comfy,
        control,
        f"snapshot: {{when: imports}}\nprobe: {{port: {port}}}\nmodels: [{{unet: tiny.safetensors}}]\n",
    )
    assert server.pid
    assert [False, False, 0] == [listens(server.port), listens(port), inet_sockets(server.pid)]
    assert "plan:" not in server.log

    (control / "snapshot-complete").touch()
    server.wait_ready()
    found = outcome(server)
    assert ("imports", "resumed", None, None) == tuple(
        found[key] for key in ("when", "result", "restored", "error")
    )
    assert 200 == ask(f"http://{LOOPBACK}:{port}/ready").status
    server.sink(prompts.load("UNETLoader", unet_name="tiny.safetensors", weight_dtype="default"))
    assert ({"tiny": 1}, {}) == (hits(server), misses(server))
    assert [] == list(control.iterdir())


def test_error(comfy: Comfy, tmp_path: Path) -> None:
    """Held after the warm-up, and the platform fails: it serves, warm, and says what went wrong."""
    word = tmp_path / "word"
    (tmp_path / "image.json").write_text(json.dumps(prompts.image()), encoding="utf-8")
    server = comfy(
        preload=f"snapshot: {{when: warm, provider: file, path: '{word}'}}\n"
        f"workflows: [{{path: '{tmp_path / 'image.json'}', warmup: true}}]\n",
        wait=False,
    )
    server.wait(word.exists, "held")
    assert [False, True] == [listens(server.port), "warmed up with" in server.log]

    word.write_text("error\n", encoding="utf-8")
    server.wait_ready()
    assert ("failed", "snapshot_failed") == (outcome(server)["result"], outcome(server)["error"]["code"])
    assert {"warm"} == {row["state"] for row in rows(server).values()}
    server.run(prompts.image())
    assert {} == misses(server)


def test_not_to_be_copied(comfy: Comfy, control: Path) -> None:
    """A process whose required model failed is not announced: every replica would be without that model."""
    server = comfy(
        preload="snapshot: {when: loaded}\nmodels: [{unet: tiny.safetensors}, {vae: nowhere.safetensors}]\n",
        env={"SNAPSHOT_CONTROL_DIR": str(control)},
    )
    assert ("skipped", "snapshot_not_wanted") == (outcome(server)["result"], outcome(server)["error"]["code"])
    assert [503, []] == [server.get("/ready").status, list(control.iterdir())]
