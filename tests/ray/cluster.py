"""Owns a running Ray of one node with the application of deploy/ray.

A real head node, real ComfyUI processes, tiny models.

Ray is not imported here: its own programs in `.venv-ray` run it, as users run them.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, final

from tests.support import models as tiny
from tests.support.base_directory import PLUGIN, ROOT, lay_out, put_plugin
from tests.support.comfy import free_port
from tests.support.reply import Reply, ask
from tools.host import RAY_VENV, comfyui_path, comfyui_python, venv_bin

STATUS = """
import ray
from ray import serve
ray.init(logging_level="ERROR", log_to_driver=False)
for app in serve.status().applications.values():
    print(app.status, *(row.message for row in app.deployments.values()))
"""
NAP = """
import os
import time

class Nap:
    CATEGORY, FUNCTION, RETURN_TYPES, OUTPUT_NODE = "tests", "nap", (), True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"seconds": ("FLOAT", {"default": 1.0}), "mark": ("STRING", {"default": ""})}}

    def nap(self, seconds, mark):
        with open(os.environ["NAPS"], "a") as naps:
            naps.write(mark + "\\n")
        time.sleep(seconds)
        return {"ui": {"marks": [mark]}}

NODE_CLASS_MAPPINGS = {"Nap": Nap}
"""
"""A node that sleeps without heeding an interrupt, and writes down that it ran."""


def nap(mark: str, seconds: float = 1.0) -> dict[str, Any]:
    """A prompt that sleeps; every run of it is in `Cluster.naps`."""
    return {"1": {"class_type": "Nap", "inputs": {"seconds": seconds, "mark": mark}}}


@final
class Cluster:
    """A head node, and the application on it once `serve` was called."""

    def __init__(self, folder: Path, *, custom_nodes: Mapping[str, str | Path] | None = None) -> None:
        """Lay out models, custom nodes and the plugin; nothing runs yet."""
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.base = folder / "base"
        self.data = folder / "data"
        self._naps = folder / "naps"
        self._gcs = free_port()
        # Unix sockets are below: their paths are short, pytest's folders are not.
        self._temp = Path(tempfile.mkdtemp(prefix="ray-"))
        self._head: subprocess.Popen[bytes] | None = None
        self._apps: list[subprocess.Popen[bytes]] = []
        models = folder / "models"
        for number in range(3):
            tiny.tiny_unet(models / "diffusion_models" / f"m{number}.safetensors", seed=number)
        tiny.tiny_clip(models / "text_encoders" / "clip_l.safetensors")
        tiny.tiny_taesd(models / "vae_approx", "taesd3")
        nodes = {"nap": NAP, **(custom_nodes or {})}
        lay_out(self.base, models=models, custom_nodes=nodes)
        put_plugin(self.base / "custom_nodes" / PLUGIN)
        self._nodes = [PLUGIN, *nodes]
        self._env = {
            **{key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "PRELOAD_"))},
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_SERVE_MAX_PER_REPLICA_RETRY_COUNT": "1",
            "RAY_AUTH_MODE": "disabled",  # else it writes a token into the home directory
            "RAY_ADDRESS": f"127.0.0.1:{self._gcs}",
            "PYTHONPATH": str(ROOT),
            "NAPS": str(self._naps),
            "HF_HUB_OFFLINE": "1",
        }

    def __enter__(self) -> Cluster:
        self.start_head()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        shutil.rmtree(self._temp, ignore_errors=True)

    @property
    def naps(self) -> list[str]:
        """The marks of all `nap` prompts that were begun, in order."""
        return self._naps.read_text(encoding="utf-8").splitlines() if self._naps.exists() else []

    @property
    def log(self) -> str:
        """What the application has said on the console."""
        file = self.folder / "serve.log"
        return file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""

    def start_head(self) -> None:
        """Start a head node without a dashboard; its workers find `deploy` by PYTHONPATH."""
        command = [
            *(str(venv_bin("ray", RAY_VENV)), "start", "--head", "--block", "--node-ip-address=127.0.0.1"),
            *(f"--port={self._gcs}", f"--temp-dir={self._temp}", "--num-cpus=8", "--num-gpus=0"),
            *("--include-dashboard=false", "--disable-usage-stats", "--object-store-memory=100000000"),
            *(f"--dashboard-agent-listen-port={free_port()}", f"--metrics-export-port={free_port()}"),
        ]
        self._head = self._spawn(command, "head.log")

    def serve(
        self,
        sets: Any,
        *,
        replicas: int = 1,
        deployments: Mapping[str, Mapping[str, Any]] | None = None,
        wait: bool = True,
        **options: Any,
    ) -> None:
        """Run the application, in place of an earlier one.

        `options` are its `args`, `deployments` change Serve's own.
        """
        (self.folder / "sets.yaml").write_text(json.dumps(sets), encoding="utf-8")
        own = {"Comfy": {"num_replicas": replicas, "ray_actor_options": {"num_cpus": 0.1}}}
        own["Front"] = {"ray_actor_options": {"num_cpus": 0.1}}
        for name, more in (deployments or {}).items():
            own[name] |= more
        arguments = ["--cpu", "--base-directory", str(self.base), "--disable-api-nodes"]
        arguments += ["--disable-all-custom-nodes", "--whitelist-custom-nodes", *self._nodes]
        args = {
            "sets": str(self.folder / "sets.yaml"),
            "comfyui": str(comfyui_path()),
            "python": str(comfyui_python()),
            "folder": str(self.data),
            "arguments": arguments,
            "linger_s": 2,
            **options,
        }
        application = {
            "name": "comfy",
            "route_prefix": "/",
            "import_path": "deploy.ray.app:app",
            "args": args,
            "deployments": [{"name": name, **more} for name, more in own.items()],
        }
        config = {"http_options": {"host": "127.0.0.1", "port": self.port}, "applications": [application]}
        file = self.folder / "serve.yaml"
        file.write_text(json.dumps(config), encoding="utf-8")
        self._apps.append(self._spawn([str(venv_bin("serve", RAY_VENV)), "run", str(file)], "serve.log"))
        if wait:
            self.wait_replicas(replicas)

    def stop(self) -> None:
        """End what was started here at once, as a power cut would, and see that no ComfyUI is left."""
        for process in (self._head, *self._apps):
            if process is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        self._head, self._apps = None, []
        self.wait(lambda: not self.comfyuis(), "every ComfyUI has ended")

    def actors(self, name: str) -> list[int]:
        """The ids of the actors of a deployment, which Ray names in their command lines.

        A process that an actor has just forked has its command line for a moment: it is left out.
        """
        named = f"ray::ServeReplica:comfy:{name}".encode()
        found = self._processes(lambda words: words[0].startswith(named))
        return [pid for pid in found if _parent(pid) not in found]

    def replicas(self) -> dict[str, list[str]]:
        """The replicas that the front knows, each with the sets that it holds."""
        try:
            reply = self.get("/ready")
        except OSError:
            return {}
        return {row["replica"]: row["sets"] for row in (reply.json or {}).get("replicas", ())}

    def wait_replicas(self, count: int, *, but: Sequence[str] = ()) -> dict[str, list[str]]:
        """Wait until there is this number of replicas, none of `but` among them."""
        self.wait(
            lambda: len(now := self.replicas()) == count and not set(but) & set(now),
            f"there are {count} replicas",
            deadline=150,
        )
        return self.replicas()

    def holder(self, name: str) -> str:
        """The replica that holds `a` or `b`, each of two another one: prompts make that so, if it is not."""

        def each_its_own() -> bool:
            held = [one for sets in self.wait_replicas(2).values() for one in sets]
            for missing in {"a", "b"} - set(held):
                header = {"serve_multiplexed_model_id": missing}
                assert (
                    200 == self.post("/run", {"prompt": nap(f"load-{time.monotonic()}", 0.0)}, header).status
                )
            return sorted(held) == ["a", "b"]

        self.wait(each_its_own, "a and b are held", deadline=90)
        (found,) = [tag for tag, sets in self.replicas().items() if name in sets]
        return found

    def status(self) -> str:
        """The application as Serve sees it: its status, and the message of each deployment."""
        command = [str(venv_bin("python", RAY_VENV)), "-c", STATUS]
        done = subprocess.run(command, env=self._env, capture_output=True, text=True, timeout=60, check=False)
        return done.stdout

    def comfyuis(self, tag: str = "") -> list[int]:
        """The ids of our ComfyUI processes, or of that of one replica."""
        mine = str(self.data / tag).encode()
        return self._processes(
            lambda words: words[1].endswith(b"/main.py") and any(w.startswith(mine) for w in words)
        )

    def _processes(self, ours: Callable[[list[bytes]], bool]) -> list[int]:
        found: list[int] = []
        for path in Path("/proc").iterdir():
            if path.name.isdigit():
                with contextlib.suppress(OSError, IndexError):
                    if ours((path / "cmdline").read_bytes().split(b"\0")):
                        found.append(int(path.name))
        return found

    def wait(self, condition: Callable[[], bool], what: str, *, deadline: float = 60.0) -> None:
        """Wait until `condition()`; raises after `deadline` seconds, with the end of the log."""
        end = time.monotonic() + deadline
        while not condition():
            if time.monotonic() > end:
                lines = [line for line in self.log.splitlines() if "GET /ready" not in line]
                tail = "\n".join(lines[-40:])
                raise TimeoutError(f"not so after {deadline:.0f} s: {what}\n{tail}")
            time.sleep(0.2)

    def get(self, path: str) -> Reply:
        """Ask the front."""
        return ask(self.url + path)

    def post(self, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Reply:
        """Post JSON to the front, and wait for minutes: a client that gives up takes its prompt with it."""
        return ask(self.url + path, method="POST", body=body, headers=headers, timeout=240.0)

    def _spawn(self, command: Sequence[str], log: str) -> subprocess.Popen[bytes]:
        with (self.folder / log).open("ab") as output:
            return subprocess.Popen(
                command,
                cwd=self.folder,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )


def _parent(pid: int) -> int:
    """The parent of a process, 0 if it has ended (proc(5): the second field after the name)."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])
    except OSError:
        return 0
