"""The commands of docs/kubernetes.md and docs/docker.md.

What needs no cluster is run, what is applied is rendered and validated.

Every command must be one that this file knows how to check, so a new one in the manual needs a check here.
"""

from __future__ import annotations

import itertools
import json
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import kubernetes_validate
import pytest
import yaml

from tests.deploy import dockerfile
from tests.deploy.manifests import (
    SCHEMA,
    Manifest,
    chart,
    containers,
    deployments,
    is_built_in,
    kustomized,
    resolved,
    templates,
)
from tests.deploy.tools import ROOT, kubectl

DOCS = ("kubernetes.md", "docker.md")
VERSION = "1.37"
Values = dict[str, str]


class Line(NamedTuple):
    """A command of a manual."""

    doc: str
    number: int
    text: str

    def __str__(self) -> str:
        return f"{self.doc}:{self.number}: {self.text[:60]}"


def lines() -> Iterator[Line]:
    """The commands of the `sh` blocks; a backslash joins lines."""
    for doc in DOCS:
        text = (ROOT / "docs" / doc).read_text(encoding="utf-8")
        for block in re.finditer(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            number = text[: block.start(1)].count("\n") + 1
            body = re.sub(r"\\\n *", lambda found: " " + "\0" * found[0].count("\n"), block[1])
            for line in body.split("\n"):
                if line.strip() and not line.strip().startswith("#"):
                    yield Line(doc, number, line.replace("\0", "").strip())
                number += 1 + line.count("\0")


LINES = list(lines())


def words(text: str) -> list[str]:
    """As a shell splits them, comments left out."""
    return shlex.split(text, comments=True)


def option(given: list[str], *names: str) -> list[str]:
    """The values of an option, given as `--name value` or `--name=value`."""
    found = [b for a, b in itertools.pairwise(given) if a in names]
    return found + [
        word.partition("=")[2] for word in given if word.partition("=")[0] in names and "=" in word
    ]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the manuals have the reader write."""
    folder = tmp_path_factory.mktemp("manual")
    for doc in DOCS:
        text = (ROOT / "docs" / doc).read_text(encoding="utf-8")
        for name, body in re.findall(r"^```yaml title=(\S+)\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            (folder / name).write_text(body, encoding="utf-8")
    return folder


def existing(path: str, folder: Path) -> Path:
    """A file that a command names: of the repository, or one that the reader wrote."""
    found = folder / path if (folder / path).exists() else ROOT / path
    assert found.exists(), f"{path} does not exist"
    return found


def values_of(given: list[str]) -> dict[str, object]:
    """What --set says, for the few forms that the manual uses."""
    found: dict[str, object] = {}
    for pair in option(given, "--set"):
        key, _, value = pair.partition("=")
        *path, last = key.split(".")
        level: dict[str, object] = found
        for part in path:
            level = level.setdefault(part, {})  # pyright: ignore[reportAssignmentType]
        level[last] = value.strip("{}").split(",") if value.startswith("{") else yaml.safe_load(value)
    return found


def valid(rendered: list[Manifest]) -> list[Manifest]:
    for one in filter(is_built_in, rendered):
        kubernetes_validate.validate(one, VERSION, strict=True)
    return rendered


def released(folder: Path) -> list[list[Manifest]]:
    """What each `helm install` and `helm upgrade` of the manual makes."""
    found: list[list[Manifest]] = []
    for line in LINES:
        given = words(line.text)
        if given[:2] in (["helm", "install"], ["helm", "upgrade"]):
            found.append(render(given, folder))
    return found


def render(given: list[str], folder: Path) -> list[Manifest]:
    release, path = [word for word in given[2:] if not word.startswith("-")][:2]
    assert (ROOT / path / "Chart.yaml").exists()
    assert ["comfyui"] == option(given, "--namespace", "-n")
    return chart(
        values_of(given),
        *(existing(file, folder) for file in option(given, "-f", "--values")),
        release=release,
    )


def check_helm(given: list[str], folder: Path) -> None:
    if given[1] in ("install", "upgrade"):
        assert deployments(valid(render(given, folder)))
    else:
        assert given[1:3] in (["test", "comfyui"], ["uninstall", "comfyui"])


def check_kubectl(given: list[str], folder: Path) -> None:
    plain = [word for word in given[1:] if word not in ("-n", "comfyui", "&", "-f")]
    action, *rest = plain
    if action == "create":
        made = yaml.safe_load(
            kubectl(*(word.replace("$", "x") for word in given[1:]), "--dry-run=client", "-o", "yaml")
        )
        kubernetes_validate.validate(made, VERSION, strict=True)
    elif action == "apply" and "-k" in given:
        valid(kustomized(existing(option(given, "-k")[0], folder)))
    elif action == "apply":
        valid(list(yaml.safe_load_all(existing(option(given, "-f")[0], folder).read_text(encoding="utf-8"))))
    elif rest and any(word.startswith("deployment/") for word in rest):
        (target,) = (word.removeprefix("deployment/") for word in rest if word.startswith("deployment/"))
        specs = [
            d["spec"]["template"]["spec"]
            for made in released(folder)
            for d in deployments(made)
            if d["metadata"]["name"] == target
        ]
        assert specs, f"no release has a deployment {target}"
        for container in option(given, "-c"):
            assert any(container in containers(spec) for spec in specs)
        if action == "port-forward":
            ports = {p["name"]: p["containerPort"] for p in containers(specs[0])["comfyui"]["ports"]}
            assert {"8188", f"{ports['probe']}:probe"} == {word for word in rest if word[0].isdigit()}
    else:
        pods = "fill-claim" in (ROOT / "deploy" / "kubernetes" / "fill-claim.yaml").read_text(
            encoding="utf-8"
        )
        assert pods
        assert action in ("wait", "cp", "exec", "delete"), f"unknown: {given}"
        assert any("fill-claim" in word for word in rest) or "app.kubernetes.io/instance=comfyui" in given


def check_docker(given: list[str], folder: Path) -> None:
    assert folder
    if "build" in given:
        (file,) = option(given, "-f")
        assert file == "-" or (ROOT / file) == dockerfile.FILE
        assert set(option(given, "--target")) <= {"base", "runtime", "app"}
        known = {name for stage in ("", "base", "runtime", "app") for name in arguments(stage)}
        assert {pair.partition("=")[0] for pair in option(given, "--build-arg")} <= known
    elif "compose" in given:
        assert existing(option(given, "-f")[0], folder)
    else:
        assert given[1] in ("run", "push")


def arguments(stage: str) -> set[str]:
    """Build arguments; those before the first FROM belong to no stage."""
    if stage:
        return set(dockerfile.arguments(stage))
    head = dockerfile.FILE.read_text(encoding="utf-8").partition("\nFROM ")[0]
    return set(re.findall(r"^ARG (\w+)", head, re.MULTILINE))


def check_curl(given: list[str], folder: Path) -> None:
    (url,) = (word for word in given if "localhost" in word or "127.0.0.1" in word)
    path = url.partition("/")[2] if "://" not in url else url.split("/", 3)[3]
    assert path.partition("?")[0] in ("ready", "prompt", "history", "preload/metrics")
    for data in option(given, "-d"):
        body = json.loads(existing(data.removeprefix("@"), folder).read_text(encoding="utf-8"))
        assert {"class_type", "inputs"} == {key for node in body["prompt"].values() for key in node}


def check_models(given: list[str], folder: Path) -> None:
    """`cd models && find …` of the page, with names that shells stumble over."""
    (folder / "models" / "vae").mkdir(parents=True, exist_ok=True)
    (folder / "models" / "vae" / "模型 '一'.pt").write_bytes(b"x")
    subprocess.run(
        ["sh", "-c", shlex.join(given).replace("'&&'", "&&").replace("'>'", ">")], cwd=folder, check=True
    )
    check = ["sha256sum", "--quiet", "-c", "SHA256SUMS"]
    assert 0 == subprocess.run(check, cwd=folder / "models", check=False).returncode


def check_known(given: list[str], folder: Path) -> None:
    """Programs that need what a test has not, named so that a new one is noticed."""
    assert folder
    assert given[0] in ("kind", "install")


CHECKS: dict[str, Callable[[list[str], Path], None]] = {
    "helm": check_helm,
    "kubectl": check_kubectl,
    "docker": check_docker,
    "MODELS=/srv/models": lambda given, folder: check_docker(given[1:], folder),
    "printf": lambda given, folder: check_docker(given[given.index("|") + 1 :], folder),
    "curl": check_curl,
    "cd": check_models,
    "kind": check_known,
    "install": check_known,
}


@pytest.mark.parametrize("line", LINES, ids=str)
def test_command(line: Line, files: Path) -> None:
    """It names what exists; what it applies is valid."""
    given = words(line.text)
    assert given[0] in CHECKS, "no check for this program"
    CHECKS[given[0]](given, files)


def test_values_in_the_text(files: Path) -> None:
    """Every chart value that docs/kubernetes.md names in its text is one."""
    assert list(files.iterdir())
    text = (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8")
    roots = "|".join(SCHEMA["properties"].keys() - {"preload"})  # its keys are those of settings.md
    for path in set(re.findall(rf"`((?:{roots})(?:\.\w+)+)[`:]", text)):
        found = SCHEMA
        for part in path.split("."):
            found = resolved(found)
            if "properties" not in found:
                break
            assert part in found["properties"], path
            found = found["properties"][part]


def test_first_picture() -> None:
    """The graph of the quickstart loads the very file that its values file downloads."""
    folder = ROOT / "deploy" / "helm" / "comfyui-preload" / "examples"
    graph = json.loads((folder / "first-picture.json").read_text(encoding="utf-8"))["prompt"]
    values = yaml.safe_load((folder / "cpu.yaml").read_text(encoding="utf-8"))

    assert f"checkpoints/{graph['1']['inputs']['ckpt_name']}" == values["models"]["download"][0]["path"]
    assert graph["1"]["inputs"]["ckpt_name"] == values["preload"]["models"][0]["checkpoint"]


def test_every_kind_of_pod_is_in_the_table() -> None:
    """`kubectl logs -c` of the table names init containers that exist."""
    text = (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8")
    made = chart(
        {
            "nodeCache": {"enabled": True},
            "models": {"download": [{"url": "hf://a/b/c", "path": "x"}], "downloadAs": "init"},
        }
    )
    names = {name for _, template in templates(made) for name in containers(template["spec"])}

    assert set(re.findall(r"-c ([a-z-]+)`", text)) <= names
