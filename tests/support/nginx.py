"""Owns a running gateway: Debian's nginx with the chart's own files, on a free port, ended with the block."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.comfy import free_port

ROOT = Path(__file__).resolve().parents[2]
FILES = ROOT / "deploy" / "helm" / "comfyui-preload" / "files" / "gateway"
EXAMPLE = ROOT / "deploy" / "gateway" / "settings.conf"
MODULE = Path("/usr/lib/nginx/modules/ngx_http_js_module.so")


@contextmanager
def gateway(
    folder: Path, replicas: Sequence[str], spill: int = 8, settings: str | None = None
) -> Iterator[str]:
    """Start it with these replicas (host:port) to ask for the fleet: its URL.

    settings: the text of settings.conf in place of the example's with the replicas put in.
    """
    if shutil.which("nginx") is None or not MODULE.exists():
        pytest.skip("nginx with njs is not installed (Debian: apt-get install nginx libnginx-mod-http-js)")
    port = free_port()
    text = (FILES / "nginx.conf").read_text(encoding="utf-8")
    text = text.replace("/etc/gateway/", f"{folder}/").replace(" /tmp/", f" {folder}/")
    text = text.replace("modules/ngx_http", f"{MODULE.parent}/ngx_http")
    text = text.replace("listen [::]:8080;", f"listen [::1]:{port};" if socket.has_dualstack_ipv6() else "")
    text = text.replace("listen 8080", f"listen 127.0.0.1:{port}")
    (folder / "nginx.conf").write_text(f"user root;\n{text}", encoding="utf-8")
    shutil.copy(FILES / "gateway.js", folder)
    if settings is None:
        servers = "".join(f"    server {one} max_fails=1 fail_timeout=5s;\n" for one in replicas)
        settings = re.sub(r"(    server .*\n)+", servers, EXAMPLE.read_text(encoding="utf-8"))
        settings = settings.replace("default 8;", f"default {spill};")
    (folder / "settings.conf").write_text(settings, encoding="utf-8")
    words = ["-p", str(folder), "-e", str(folder / "error.log"), "-c", str(folder / "nginx.conf")]
    process = subprocess.Popen(["nginx", *words, "-g", "daemon off;"])
    try:
        end = time.monotonic() + 10
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.poll() is None, (folder / "error.log").read_text(encoding="utf-8")
            assert time.monotonic() < end, "nginx does not listen after 10 s"
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)
