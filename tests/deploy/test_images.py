"""deploy/docker for real.

All three stages built by buildah, and ComfyUI run from them as a container runtime would.

Slow and large (minutes, GBs): `make images`, as root, with Debian's packages buildah and debootstrap.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.deploy import dockerfile
from tests.deploy.buildah import BuildError, Image, Store, pack_comfyui
from tests.deploy.container import UID, end, entrypoint, running, wait_for
from tests.support import models as tiny
from tests.support import prompts
from tests.support.comfy import LOOPBACK, free_port
from tests.support.reply import ask
from tools.host import comfyui_path

pytestmark = [pytest.mark.images, pytest.mark.timeout(1800)]

log = logging.getLogger("images")
STAGES = ("base", "runtime", "app")
PRELOAD = """
probe: {{port: {probe}}}
models:
  - unet: tiny.safetensors
  - vae: taesd3
workflows:
  - path: workflows/image.json
    warmup: true
"""


class Built(NamedTuple):
    """What the tests look at: a copy of what Docker would be sent, and the images made of it."""

    store: Store
    context: Path
    images: dict[str, Image]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    """All three stages, one after the other."""
    if os.geteuid() or not (shutil.which("buildah") and shutil.which("debootstrap")):
        pytest.skip("needs root, and Debian's packages buildah and debootstrap")
    folder = tmp_path_factory.mktemp("images")
    context = folder / "context"
    for name in dockerfile.sent():
        (context / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(dockerfile.ROOT / name, context / name)
    app = context / "deploy" / "docker" / "app"
    fill(app / "models")
    (app / "workflows" / "image.json").write_text(json.dumps(prompts.image(vae="taesd3")), encoding="utf-8")
    (app / "preload.yaml").write_text(PRELOAD.format(probe=9188), encoding="utf-8")
    pack_comfyui(comfyui_path(), folder / "comfyui.tar.gz")

    store = Store(folder / "store")
    try:
        store.debian()
        images = {stage: build(store, stage, context) for stage in STAGES}
        for stage, below in zip(STAGES, ((), images["base"].layers, images["runtime"].layers), strict=True):
            sizes = images[stage].sizes
            own = [f"{size / 1e6:.2f}" for size in sizes[len(below) :]]
            log.info(
                "%s: %.0f s, %.2f GB; its layers in MB: %s",
                stage,
                store.seconds[stage],
                sum(sizes) / 1e9,
                " ".join(own),
            )
        yield Built(store, context, images)
    finally:
        store.remove()
        shutil.rmtree(folder)


def fill(models: Path, seed: int = 0) -> None:
    tiny.tiny_unet(models / "diffusion_models" / "tiny.safetensors", seed)
    tiny.tiny_clip(models / "text_encoders" / "clip_l.safetensors", seed)
    tiny.tiny_taesd(models / "vae_approx", "taesd3", seed)


def build(store: Store, stage: str, context: Path, tag: str | None = None, sha256: str = "") -> Image:
    archive = context.parent / "comfyui.tar.gz"
    inside = "/mnt/comfyui.tar.gz"
    sha256 = sha256 or hashlib.sha256(archive.read_bytes()).hexdigest()
    where = ("--volume", f"{archive}:{inside}:ro", "--build-arg", f"COMFYUI_URL=file://{inside}")
    return store.build(stage, context, *where, "--build-arg", f"COMFYUI_SHA256={sha256}", tag=tag)


def test_stages(built: Built) -> None:
    """Each stage is the one below and something on top."""
    base, runtime, app = (built.images[stage].layers for stage in STAGES)

    assert base == runtime[: len(base)]
    assert runtime == app[: len(runtime)]
    assert len(base) < len(runtime) < len(app)


def test_app_changes(built: Built, tmp_path: Path) -> None:
    """Other models, another YAML: both lower stages stay as they are.

    Another YAML alone leaves the models, too.
    """
    context = Path(shutil.copytree(built.context, tmp_path / "context"))
    archive = tmp_path / "comfyui.tar.gz"
    archive.symlink_to(built.context.parent / archive.name)
    app = context / "deploy" / "docker" / "app"
    before, below = built.images["app"].layers, built.images["runtime"]

    (app / "preload.yaml").write_text("drain: 5\n", encoding="utf-8")
    other_yaml = build(built.store, "app", context, "other").layers
    assert before[:-1] == other_yaml[:-1]
    assert before[-1] != other_yaml[-1]

    fill(app / "models", seed=1)
    other_models = build(built.store, "app", context, "other").layers
    assert below.layers == other_models[: len(below.layers)]
    assert before[len(below.layers)] != other_models[len(below.layers)]
    assert below.id == build(built.store, "runtime", context, "other").id
    log.info("app again with other models: %.1f s", built.store.seconds["other"])


def test_plugin_changes(built: Built, tmp_path: Path) -> None:
    """Another plugin: PyTorch, ComfyUI and its requirements stay as they are."""
    context = Path(shutil.copytree(built.context, tmp_path / "context"))
    archive = tmp_path / "comfyui.tar.gz"
    archive.symlink_to(built.context.parent / archive.name)
    with (context / "preload.py").open("a", encoding="utf-8") as source:
        source.write("# changed\n")

    before, after = built.images["runtime"], build(built.store, "runtime", context, "other")
    same = sum(1 for a, b in zip(before.layers, after.layers, strict=True) if a == b)
    log.info("runtime again with another plugin: %.1f s", built.store.seconds["other"])
    assert before.layers[:same] == after.layers[:same]
    assert sum(before.sizes[same:]) < 20e6, "no more than the plugin itself"
    assert same > len(built.images["base"].layers)


def test_no_secret(built: Built) -> None:
    """What pip was told on this machine is neither in the files nor in the history."""
    with built.store.container("app") as name:
        root = Path(built.store.buildah("mount", name).strip())
        left = root / "etc" / "pip.conf"
        assert not left.exists() or not left.read_bytes()
        assert not [*root.glob("opt/ComfyUI/custom_nodes/comfyui-preload/**/.*")]
    history = built.store.buildah("inspect", "--type", "image", "localhost/app")
    told = [
        line.partition(" = ")[2]
        for line in (built.store.folder / "pip.conf").read_text(encoding="utf-8").splitlines()
    ]
    assert not [value for value in told if "/" in value and value in history]


def test_other_archive(built: Built) -> None:
    """An archive of ComfyUI that is not the one that was asked for is not used."""
    with pytest.raises(BuildError, match="computed checksum did NOT match"):
        build(built.store, "runtime", built.context, "other", sha256="0" * 64)


def test_compiled(built: Built, tmp_path: Path) -> None:
    """Nothing is left to compile at a start, which is what makes it quick.

    Without .pyc files it takes longer.
    """
    with built.store.container("app") as name:
        root = Path(built.store.buildah("mount", name).strip()) / "opt"
        sources = [*root.glob("ComfyUI/**/*.py"), *root.glob("venv/lib/python*/site-packages/torch/**/*.py")]
        bare = [file for file in sources if not [*file.parent.glob(f"__pycache__/{file.stem}.cpython-*.pyc")]]
        bare = [
            file for file in bare if "testing" not in file.parts
        ]  # where torch keeps syntax of a later Python
    assert 2000 < len(sources)
    assert [] == bare

    def seconds(**more: str) -> float:
        began = time.monotonic()
        with running(built.store, tmp_path, **more) as comfy:
            wait_for(lambda: "To see the GUI" in comfy.log, "listening")
            return time.monotonic() - began

    with_them, without = zip(
        *[(seconds(), seconds(PYTHONPYCACHEPREFIX="/nowhere")) for _ in range(2)], strict=True
    )
    log.info(
        "start to listening: %s s, without .pyc files %s s",
        *([f"{s:.1f}" for s in row] for row in (with_them, without)),
    )
    assert min(with_them) < min(without)


def test_description(built: Built) -> None:
    """What a registry shows."""
    labels = built.images["app"].config["Labels"]
    assert {"title", "description", "source", "version", "revision"} <= {
        key.rpartition(".")[2] for key in labels
    }
    assert {"CMD", *dockerfile.health_check()} == set(built.images["app"].config["Healthcheck"]["Test"])


def test_ready(built: Built, tmp_path: Path) -> None:
    """Read-only root, not root, process 1.

    Refused and 503, then 200 with a warmed-up workflow; SIGTERM ends it well.
    """
    with running(built.store, tmp_path) as comfy:
        seen = [wait_for(lambda: r if (r := comfy.ready(9188))[0] else None, "answering early")]
        assert (1, (None, "unreachable")) == (comfy.health(), comfy.ready(8188))
        while seen[-1][0] != 200:
            seen.append(comfy.ready(9188))
            assert comfy.process.poll() is None, comfy.log
        assert (503, "starting") == seen[0]
        assert {503, 200} == {http for http, _ in seen}
        assert (0, (200, "ready")) == (comfy.health(), comfy.ready(8188))
        assert f"{UID}\n" == comfy.inside("id", "-u")[1]
        assert 1 == comfy.inside("touch", "/opt/ComfyUI/x")[0]
        assert (0, "") == comfy.inside("touch", "/tmp/x", "/data/input/x", "/data/output/x", "/data/user/x")  # noqa: S108 — in there

        began = time.monotonic()
        os.kill(comfy.first, signal.SIGTERM)
        assert 0 == comfy.process.wait(20), comfy.log
        assert "Stopped server" in comfy.log
        log.info("SIGTERM to end: %.1f s", time.monotonic() - began)


def test_ends_while_it_imports(built: Built, tmp_path: Path) -> None:
    """Python as process 1 would ignore the signal until it has a handler."""
    with running(built.store, tmp_path) as comfy:
        wait_for(lambda: comfy.ready(9188)[0], "answering early")
        os.kill(comfy.first, signal.SIGTERM)
        assert 128 + signal.SIGTERM == comfy.process.wait(10)


def test_models_on_a_mount(built: Built, tmp_path: Path) -> None:
    """By `buildah run`, with models and settings of one's own mounted over those of the image."""
    port, probe = free_port(), free_port()
    models, app = tmp_path / "models", tmp_path / "app"
    fill(models, seed=2)
    app.mkdir()
    text = f"probe: {{port: {probe}}}\nmodels: [{{vae: taesd3, name: mounted}}]\n"
    (app / "preload.yaml").write_text(text, encoding="utf-8")
    mounts = ["--volume", f"{models}:/opt/ComfyUI/models:ro", "--volume", f"{app}:/app:ro"]
    command = [*built.images["app"].command, "--cpu", "--port", str(port)]
    with built.store.container("app") as name:
        process = built.store.start(
            "run", "--isolation", "chroot", *mounts, name, "--", *command, log=tmp_path / "log"
        )
        try:
            first = wait_for(lambda: entrypoint(process.pid), "running")
            assert UID == Path(f"/proc/{first}").stat().st_uid
            assert 503 == wait_for(lambda: status(probe), "answering early")
            wait_for(lambda: status(probe) == 200, "ready")
            assert 200 == status(port, "/ready/mounted")
            os.kill(first, signal.SIGTERM)
            assert 0 == process.wait(20), (tmp_path / "log").read_text(encoding="utf-8")
        finally:
            end(process)


def status(port: int, path: str = "/ready") -> int | None:
    """Of an answer on this machine; None if the connection is refused."""
    try:
        return ask(f"http://{LOOPBACK}:{port}{path}").status
    except OSError:
        return None
