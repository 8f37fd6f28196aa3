"""The ring of deploy/ray: a real Ray with real ComfyUI processes; one cluster for all tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.ray.cluster import Cluster
from tests.support import bad_files
from tools.host import RAY_VENV, venv_bin


def set_of(number: int) -> dict[str, Any]:
    """The set of the tiny diffusion model `number`."""
    return {
        "models": [
            {"unet": f"m{number}.safetensors"},
            {"clip": "clip_l.safetensors", "type": "sd3"},
            {"vae": "taesd3"},
        ]
    }


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A head node.

    Two replicas are on it, which hold one set each of `a`, `b`, `c` and two that cannot be loaded.
    """
    if not venv_bin("serve", RAY_VENV).exists():
        pytest.skip("Ray Serve is not installed: run `make setup`")
    with Cluster(tmp_path_factory.mktemp("ray")) as one:
        bad_files.write_sparse(one.folder / "models" / "diffusion_models" / "huge.safetensors")
        sets = {
            **{name: set_of(number) for number, name in enumerate("abc")},
            "huge": {"models": [{"unet": "huge.safetensors"}]},
            "absent": {"models": [{"unet": "absent.safetensors"}]},
        }
        queue = {"Comfy": {"max_queued_requests": 30}}
        one.serve({"sets": sets}, replicas=2, deployments=queue, prompt_timeout_s=6.0)
        one.wait(lambda: "RUNNING" in one.status(), "Serve routes to both")
        yield one
