"""Prompts back to back, while models are reloaded, released, put to sleep and woken.

None is lost or wrong.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.server.conftest import Comfy
from tests.support import prompts
from tests.support.comfy import ComfyServer
from tests.support.commands import carry_out
from tests.support.readings import hits, misses

log = logging.getLogger(__name__)
IN_FLIGHT = 3
PATIENCE = 300.0
"""Seconds for one prompt or command on a busy machine; nothing is measured by it."""
FEW = "models:\n  - unet: tiny.safetensors\n  - clip: clip_l.safetensors\n    type: sd3\n"
MORE = FEW + "  - {unet: other.safetensors, required: false}\n  - {vae: taesd3, required: false}\n"


WORK = {f"image {seed}": prompts.image(seed=seed) for seed in range(4)}
WORK["weights"] = prompts.load("UNETLoader", unet_name="tiny.safetensors", weight_dtype="default")
"""After it the executor has forgotten what the images' loaders returned, so that they are asked again."""


class Traffic:
    """Posts prompts, always a few ahead, and compares each result with that from before the commands."""

    def __init__(self, server: ComfyServer) -> None:
        self._server = server
        self.expected = {name: self._result(server.run(prompt)) for name, prompt in WORK.items()}
        self.right = 0
        """Prompts whose result was the expected one."""
        self.wrong: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Returns when every prompt that was accepted has its result."""
        self._stop.set()
        self._thread.join(IN_FLIGHT * PATIENCE)

    def _run(self) -> None:
        waiting: list[tuple[str, str]] = []
        for name in itertools.cycle(WORK):
            while len(waiting) >= IN_FLIGHT or (self._stop.is_set() and waiting):
                self._check(*waiting.pop(0))
            if self._stop.is_set():
                return
            waiting.append((name, self._server.queue(WORK[name])))

    def _check(self, name: str, prompt_id: str) -> None:
        try:
            if self._result(self._server.result(prompt_id, deadline=PATIENCE)) == self.expected[name]:
                self.right += 1
            else:
                self.wrong.append(f"{name}: another result")
        except Exception as error:  # noqa: BLE001 — whatever it is, it is a lost prompt
            self.wrong.append(f"{name}: {error}")

    def _result(self, entry: dict[str, Any]) -> object:
        """The latent, or what the Sink says of the weights."""
        (output,) = entry["outputs"].values()
        if "objects" in output:
            return output["objects"][0]["weights"]
        (saved,) = output["latents"]
        content = (self._server.base / "output" / saved["subfolder"] / saved["filename"]).read_bytes()
        return hashlib.sha256(_tensors(content)).hexdigest()


def _tensors(safetensors: bytes) -> bytes:
    """Without the header, which holds the prompt."""
    return safetensors[8 + int.from_bytes(safetensors[:8], "little") :]


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("rounds", [1, pytest.param(20, marks=pytest.mark.soak)])
def test_commands_while_prompts_run(comfy: Comfy, rounds: int) -> None:
    """Each command in turn, with at least one prompt between two of them."""
    server = comfy(preload=FEW)
    server.wait_ready()
    settings = server.base / "preload.yaml"

    def reload(text: str) -> Callable[[], dict[str, Any]]:
        def act() -> dict[str, Any]:
            Path(settings).write_text(text, encoding="utf-8")
            return carry_out(server, "reload", deadline=PATIENCE)

        return act

    acts: dict[str, Callable[[], dict[str, Any]]] = {
        "reload more": reload(MORE),
        "sleep": lambda: carry_out(server, "sleep", deadline=PATIENCE),
        "wake": lambda: carry_out(server, "wake", deadline=PATIENCE),
        "release other": lambda: carry_out(server, "release", "other", deadline=PATIENCE),
        "reload other": lambda: carry_out(server, "reload", "other", deadline=PATIENCE),
        "reload few": reload(FEW),
    }
    done: Counter[str] = Counter()
    traffic = Traffic(server)
    traffic.start()
    for name in [*acts] * rounds:
        job = acts[name]()
        assert "done" == job["state"], job
        done[name] += 1
        before = traffic.right
        server.wait(
            lambda before=before: bool(traffic.right > before or traffic.wrong),
            "answering prompts",
            deadline=PATIENCE,
        )
    traffic.stop()

    log.info(
        "%d prompts, %d commands", traffic.right, sum(done.values())
    )  # the figures of docs/reliability.md
    assert [] == traffic.wrong
    assert {} == misses(server), "every loader call of every prompt was answered from memory"
    assert all(count >= rounds for name, count in hits(server).items() if name in ("tiny", "clip_l"))
