"""Owns real images.

A base of Debian's packages, builds by buildah without a daemon, all in one folder that is removed.

Needs root, Debian's buildah and debootstrap, and a kernel with overlay: the storage driver vfs would copy all
of PyTorch for each layer above it. Nothing of this machine gets into an image: pip's configuration and files
are mounted while one is built.
"""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BASE = "localhost/debian"
PACKAGES = "python3,python3-venv,ca-certificates"
_CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
_NOT_COMFYUI = {"models", "input", "output", "temp", "user", "custom_nodes"}
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Image:
    """What a runtime would know of an image."""

    id: str
    config: dict[str, Any]
    layers: tuple[str, ...]
    sizes: tuple[int, ...]
    """Bytes, layer by layer."""

    @property
    def command(self) -> list[str]:
        return [*self.config["Entrypoint"], *(self.config.get("Cmd") or [])]

    @property
    def environment(self) -> list[str]:
        found: list[str] = self.config["Env"]
        return found


class BuildError(Exception):
    """buildah failed; the message ends in its last words."""


class Store:
    """Where images and containers are."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seconds: dict[str, float] = {}
        """How long the last build of each tag took."""
        self._temporary = folder / "tmp"
        self._temporary.mkdir(parents=True)
        self._env = {**os.environ, "TMPDIR": str(self._temporary), "STORAGE_DRIVER": "overlay"}

    def command(self, *words: str) -> list[str]:
        return [
            "buildah",
            "--root",
            str(self.folder / "images"),
            "--runroot",
            str(self.folder / "run"),
            *words,
        ]

    def buildah(self, *words: str, deadline: float = 120) -> str:
        """What it says on stdout and stderr."""
        ran = subprocess.run(
            self.command(*words), env=self._env, capture_output=True, text=True, check=False, timeout=deadline
        )
        if ran.returncode:
            raise BuildError(
                f"buildah {words[0]}: exit code {ran.returncode}\n{(ran.stdout + ran.stderr)[-4000:]}"
            )
        return ran.stdout + ran.stderr

    def start(self, *words: str, log: Path) -> subprocess.Popen[bytes]:
        """The same, in the background."""
        with log.open("wb") as stream:
            return subprocess.Popen(
                self.command(*words),
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
            )

    def debian(self) -> None:
        """Make BASE: what an official slim image with Python has."""
        tree = self.folder / "debian"
        mirror, suite = _mirror()
        command = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", suite, str(tree), mirror]
        ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
        if ran.returncode:
            raise BuildError(f"debootstrap: exit code {ran.returncode}\n{ran.stdout[-2000:]}")
        shutil.rmtree(tree / "var" / "cache" / "apt" / "archives")
        container = self.buildah("from", "scratch").split()[-1]
        self.buildah("add", "--quiet", container, str(tree), "/")
        self.buildah("config", "--env", _PATH, container)
        self.buildah("commit", "--quiet", "--rm", container, BASE)
        shutil.rmtree(tree)

    def build(self, stage: str, context: Path, *arguments: str, tag: str | None = None) -> Image:
        """Build a stage of deploy/docker/Dockerfile."""
        tag = f"localhost/{tag or stage}"
        words = [
            "bud",
            "--isolation",
            "chroot",
            "--layers",
            "--format",
            "docker",
            "--pull-never",
            *_pip(self.folder / "pip.conf"),
        ]
        words += ["--build-arg", f"BASE_IMAGE={BASE}", *arguments, "--target", stage, "--tag", tag]
        began = time.monotonic()
        self.buildah(
            *words, "--file", str(context / "deploy" / "docker" / "Dockerfile"), str(context), deadline=1500
        )
        self.seconds[tag.partition("/")[2]] = time.monotonic() - began
        return self.image(tag)

    def image(self, tag: str) -> Image:
        found = json.loads(self.buildah("inspect", "--type", "image", tag))
        layers = tuple(found["Docker"]["rootfs"]["diff_ids"])
        stored = json.loads(
            (self.folder / "images" / "overlay-layers" / "layers.json").read_text(encoding="utf-8")
        )
        sizes = {layer["diff-digest"]: layer["diff-size"] for layer in stored if "diff-digest" in layer}
        config = found["Docker"]["config"]
        return Image(found["FromImageID"], config, layers, tuple(sizes[layer] for layer in layers))

    @contextmanager
    def container(self, tag: str) -> Iterator[str]:
        """A container to run commands in."""
        name = self.buildah("from", "--pull-never", f"localhost/{tag}").split()[-1]
        try:
            yield name
        finally:
            self.buildah("rm", name)

    def remove(self) -> None:
        """Unmount and delete everything."""
        self.buildah("rm", "--all")
        self.buildah("rmi", "--all", "--force")
        shutil.rmtree(self.folder)


def pack_comfyui(host: Path, archive: Path) -> Path:
    """Pack an installed ComfyUI as GitHub packs a tag.

    One folder around everything, and nobody's models in it.
    """

    def wanted(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        parts = Path(member.name).parts[1:]
        skip = parts and (
            parts[0] in _NOT_COMFYUI or any(part.startswith((".", "__pycache__")) for part in parts)
        )
        return None if skip else member

    with tarfile.open(archive, "w:gz", compresslevel=1) as packed:
        packed.add(host, "ComfyUI", filter=wanted)
    return archive


def _mirror() -> tuple[str, str]:
    """Where this machine's apt gets Debian from, and which Debian that is."""
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME)", "Created-By: Packages"]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    listed = ran.stdout.splitlines()
    uri, suite = listed[0].split()
    return uri, suite


def _pip(file: Path) -> list[str]:
    """This machine's configuration of pip as a secret, and the files that it names as mounts."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout
    settings: dict[str, str] = {}
    for line in listed.splitlines():
        key, _, value = line.partition("=")
        settings[key.rpartition(".")[2]] = str(ast.literal_eval(value))
    file.write_text(
        "[global]\n" + "".join(f"{key} = {value}\n" for key, value in settings.items()), encoding="utf-8"
    )
    paths = {_CERTIFICATES, *(path for value in settings.values() for path in _paths(value.split()))}
    mounts = [
        word for path in sorted(paths) if Path(path).exists() for word in ("--volume", f"{path}:{path}:ro")
    ]
    return ["--secret", f"id=pip,src={file}", *mounts]


def _paths(words: Sequence[str]) -> Iterator[str]:
    for word in words:
        if word.startswith("file:///"):  # an index: its pages point to files beside it
            yield str(Path(word.removeprefix("file://")).parent)
        elif word.startswith("/"):
            yield word
