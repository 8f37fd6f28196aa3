"""deploy/docker for real.

All three stages built by buildah, and ComfyUI run from them as a container runtime would.

Slow and large (minutes, GBs): `make images`, as root, with Debian's packages buildah and debootstrap.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from comfy_preload.core.machine import startup_record
from tests.deploy import dockerfile
from tests.deploy.buildah import BuildError
from tests.deploy.container import UID, end, entrypoint, running, wait_for
from tests.deploy.images import STAGES, Built, all_stages, build, fill, log
from tests.support.comfy import LOOPBACK, free_port
from tests.support.reply import ask

MADE_FOR = """
import json, sys
from pathlib import Path
sys.path.append("/opt/ComfyUI/custom_nodes/comfyui-preload")
from comfy_preload.core.machine.startup_record import versions
print(json.dumps(versions(Path("/opt/ComfyUI"))))
"""
pytestmark = [pytest.mark.images, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    """All three stages."""
    if os.geteuid() or not (shutil.which("buildah") and shutil.which("debootstrap")):
        pytest.skip("needs root, and Debian's packages buildah and debootstrap")
    with all_stages(tmp_path_factory.mktemp("images")) as images:
        yield images


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
    """What pip was given on this machine is neither in the files nor in the history."""
    with built.store.container("app") as name:
        root = Path(built.store.buildah("mount", name).strip())
        left = root / "etc" / "pip.conf"
        assert not left.exists() or not left.read_bytes()
        assert not [*root.glob("opt/ComfyUI/custom_nodes/comfyui-preload/**/.*")]
    history = built.store.buildah("inspect", "--type", "image", "localhost/app")
    given = [
        line.partition(" = ")[2]
        for line in (built.store.folder / "pip.conf").read_text(encoding="utf-8").splitlines()
    ]
    assert not [value for value in given if "/" in value and value in history]


def test_other_archive(built: Built) -> None:
    """An archive of ComfyUI that is not the one that was asked for is not used."""
    with pytest.raises(BuildError, match="computed checksum did NOT match"):
        build(built.store, "runtime", built.context, "other", sha256="0" * 64)


def test_compiled(built: Built) -> None:
    """Nothing is left to compile at a start: on a read-only root every start would do it again."""
    with built.store.container("app") as name:
        root = Path(built.store.buildah("mount", name).strip()) / "opt"
        sources = [*root.glob("ComfyUI/**/*.py"), *root.glob("venv/lib/python*/site-packages/torch/**/*.py")]
        bare = [file for file in sources if not [*file.parent.glob(f"__pycache__/{file.stem}.cpython-*.pyc")]]
        bare = [
            file for file in bare if "testing" not in file.parts
        ]  # where torch keeps syntax of a later Python
    assert 2000 < len(sources)
    assert [] == bare


def test_record(built: Built, tmp_path: Path) -> None:
    """The image has the record of a start, made for what is in it; a container uses it and makes none."""
    with built.store.container("app") as name:
        root = Path(built.store.buildah("mount", name).strip())
        plugin = root / "opt" / "ComfyUI" / "custom_nodes" / "comfyui-preload"
        found = startup_record.read(plugin / "config" / "startup.trace")
        assert not [*root.glob("tmp/*")], "what the recorded start wrote is gone"
    assert "0.3.75" == found.made_for["comfyui"]
    assert found.made_for["python"].endswith(" /opt/venv/bin/python")
    assert found.bytes > 100e6
    assert any("/torch/lib/" in path for path in found.files)
    assert any(path.startswith("/opt/ComfyUI/__pycache__/nodes.cpython-") for path in found.files)

    with running(built.store, tmp_path) as comfy:
        while comfy.ready(9188)[0] != 200:
            assert comfy.process.poll() is None, comfy.log
        assert 1 == comfy.inside("test", "-e", "/data/user/comfy-preload/startup.trace")[0], comfy.log
        code, said = comfy.inside("python", "-c", MADE_FOR)
    assert (0, dict(found.made_for)) == (code, json.loads(said)), "it is used only where these are equal"
    assert "guessed" not in comfy.log


def test_locked(built: Built) -> None:
    """Every package is one of the locks, of that version, and nothing else is installed."""
    locks = (built.context / "deploy" / "docker" / "locks").glob("*.txt")
    pinned = {
        (found[1], found[2])
        for lock in locks
        for found in re.finditer(r"^([a-z0-9-]+)==(\S+)", lock.read_text(encoding="utf-8"), re.MULTILINE)
    }
    with built.store.container("app") as name:
        listed = built.store.buildah("run", "--isolation", "chroot", name, "pip", "freeze", "--all")
    installed = {
        (name.lower().replace("_", "-").replace(".", "-"), version)
        for name, _, version in (line.partition("==") for line in listed.splitlines() if "==" in line)
    }
    assert len(installed) > 60
    assert {"pip"} >= {name for name, _ in installed - pinned}


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
