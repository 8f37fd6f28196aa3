"""deploy/docker: linted, valid, and what would be in the image. tests/deploy/test_images.py builds it."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from comfy_preload.core.settings.document import parse
from comfy_preload.core.settings.validation import validate
from tests.deploy import dockerfile
from tests.deploy.dockerfile import FILE, FOLDER, ROOT
from tests.deploy.tools import program
from tests.support.base_directory import put_plugin
from tools.host import TORCH, TORCHAUDIO

COMPOSE = FOLDER / "compose.yaml"
MONITORING = ROOT / "deploy" / "monitoring"


def run(name: str, *words: str) -> tuple[int, str]:
    ran = subprocess.run([program(name), *words], capture_output=True, text=True, check=False, timeout=60)
    return ran.returncode, ran.stdout + ran.stderr


@pytest.fixture(scope="module")
def sent() -> set[str]:
    """The files that the builder is sent."""
    return dockerfile.sent()


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["services"]
    return found


def test_hadolint() -> None:
    """The Dockerfile has no known bad habit."""
    assert (0, "") == run("hadolint", str(FILE))


def test_shellcheck() -> None:
    assert (0, "") == run("shellcheck", str(Path(__file__).parent / "sandbox.sh"))


def test_compose_schema() -> None:
    """The compose file is one, by the schema of the Compose specification."""
    code, said = run("check-jsonschema", "--builtin-schema", "vendor.compose-spec", str(COMPOSE))
    assert 0 == code, said


def test_plugin_is_copied_whole(sent: set[str], tmp_path: Path) -> None:
    """The image has the plugin as a user has it.

    If this fails: a folder is missing among the COPY lines of the Dockerfile.
    """
    plugin = put_plugin(tmp_path / "plugin")
    wanted = {str(file.relative_to(plugin)) for file in plugin.rglob("*") if file.is_file()}
    clean = {
        name for name in wanted if not any(part.startswith((".", "__pycache__")) for part in Path(name).parts)
    }

    assert clean | {"LICENSE", "requirements.txt"} == dockerfile.copied("runtime", sent)


def test_app_is_apart(sent: set[str]) -> None:
    """No file of the app is in a lower stage: a change of it leaves those as they are."""
    app = dockerfile.copied("app", sent)

    assert {"deploy/docker/app/preload.yaml"} <= app
    assert set() == app & dockerfile.copied("runtime", sent)
    assert set() == dockerfile.copied("base", sent)


@pytest.mark.parametrize(
    "name",
    [
        *(
            ".env",
            ".git/config",
            ".venv/pyvenv.cfg",
            ".host/ComfyUI/main.py",
            "core/.env",
            "deploy/docker/app/.env",
        ),
        *(
            "core/__pycache__/plan.cpython-311.pyc",
            "tests/conftest.py",
            "docs/cli.md",
            "bench/demo.py",
            "tools/host.py",
        ),
        *("deploy/helm/values.yaml", "deploy/docker/app/models/.cache/x", "dist/comfyui-preload.zip"),
    ],
)
def test_stays_outside(name: str, tmp_path: Path) -> None:
    """What is private or not needed is not even sent."""
    for file in (name, "core/plan.py", "deploy/docker/app/models/vae/a.safetensors"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()

    assert {"core/plan.py", "deploy/docker/app/models/vae/a.safetensors"} == dockerfile.sent(tmp_path)


def test_pins() -> None:
    """The versions are those that the tests run with."""
    base = dockerfile.arguments("base")

    assert TORCH == (f"torch=={base['TORCH_VERSION']}", f"torchvision=={base['TORCHVISION_VERSION']}")
    assert f"torchaudio=={base['TORCHAUDIO_VERSION']}" == TORCHAUDIO
    assert "0.3.75" == dockerfile.arguments("runtime")["COMFYUI_VERSION"]


def test_how_it_runs() -> None:
    """Not root, by number, which Kubernetes can check; no shell between the runtime's signal and Python."""
    assert "1000:1000" == dockerfile.value("runtime", "USER")
    assert "SIGTERM" == dockerfile.value("runtime", "STOPSIGNAL")
    assert "dumb-init" == json.loads(dockerfile.value("runtime", "ENTRYPOINT"))[0]
    assert "USER" not in dict(dockerfile.instructions("app"))


def environment(*stages: str) -> str:
    """What the ENV instructions of these stages say."""
    words = (pair for stage in stages for pair in dockerfile.instructions(stage))
    return " ".join(rest for word, rest in words if word == "ENV")


def test_no_gpu_is_given_away() -> None:
    """Which GPUs a container sees is said by what runs it, never by the image."""
    said = environment("base", "runtime", "app")

    assert "NVIDIA_VISIBLE_DEVICES" not in said
    assert "NVIDIA_DRIVER_CAPABILITIES=compute,utility,video" in said


def test_health_check_follows_the_port() -> None:
    """No port is fixed in it: the address is a variable of the image, which `docker run -e` replaces."""
    assert not any("://" in word for word in dockerfile.health_check())
    assert "PRELOAD_URL=http://127.0.0.1:8188" in environment("runtime")


def test_example_app() -> None:
    """Its settings have no problem, neither as they are nor with the examples in them."""
    text = (FOLDER / "app" / "preload.yaml").read_text(encoding="utf-8")
    used = re.sub(r"^  # ", "  ", text.replace("# registry:", "registry:"), flags=re.MULTILINE)

    for settings in (validate(parse(text)), validate(parse(used))):
        assert () == settings.problems
        assert [()] * len(settings.entries) == [entry.problems for entry in settings.entries]
    assert [1, 1] == [len(validate(parse(used)).entries), len(validate(parse(used)).workflows)]


@pytest.mark.parametrize("profile", ["gpu", "cpu"])
def test_compose_comfyui(services: dict[str, dict[str, Any]], profile: str) -> None:
    """One profile, one ComfyUI: closed up, checked as the image is, and with time to finish prompts."""
    service = services[f"comfyui-{profile}"]
    drain = validate(parse((FOLDER / "app" / "preload.yaml").read_text(encoding="utf-8"))).options.drain

    assert [profile] == service["profiles"]
    assert (True, ["/tmp:exec"]) == (service["read_only"], service["tmpfs"])  # noqa: S108 — a mount, not a file
    assert ["CMD", *dockerfile.health_check()] == service["healthcheck"]["test"]
    assert drain + 10 <= int(service["stop_grace_period"].rstrip("s"))
    folders = {volume.rpartition(":/")[2].partition(":")[0] for volume in service["volumes"]}
    assert {"data/input", "data/output", "data/user"} <= folders
    assert (FOLDER / service["build"]["context"] / service["build"]["dockerfile"]).resolve() == FILE
    assert set(service["build"].get("args", {})) <= dockerfile.arguments("base").keys()


def test_compose_prometheus(services: dict[str, dict[str, Any]]) -> None:
    """Prometheus finds ComfyUI under the name that its configuration gives."""
    configuration = yaml.safe_load((MONITORING / "prometheus.yml").read_text(encoding="utf-8"))
    targets = {
        t
        for job in configuration["scrape_configs"]
        for static in job["static_configs"]
        for t in static["targets"]
    }

    assert "../monitoring:/etc/prometheus:ro" in services["prometheus"]["volumes"]
    for name in ("comfyui-gpu", "comfyui-cpu"):
        aliases = services[name]["networks"]["default"]["aliases"]
        assert {urlsplit(f"//{target}").hostname for target in targets} == set(aliases)


def test_compose_others(services: dict[str, dict[str, Any]]) -> None:
    """Every image has a version, every service a health check and no right that it does not need."""
    for name, service in services.items():
        assert name.startswith("comfyui") or re.search(r":v?\d", service["image"])
        assert {"healthcheck", "restart"} <= service.keys()
        assert (["ALL"], ["no-new-privileges:true"]) == (service["cap_drop"], service["security_opt"])
