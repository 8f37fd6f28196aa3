"""Behind ComfyUI's own TLS.

The main port answers over HTTPS, the early probe stays plain HTTP for the kubelet.
"""

from __future__ import annotations

import json
import shutil
import ssl
import subprocess
from http.client import HTTPSConnection
from pathlib import Path

import pytest

from tests.server.conftest import Comfy
from tests.support.comfy import LOOPBACK, free_port
from tests.support.reply import ask

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="makes its certificate with openssl")


def test_tls(comfy: Comfy, tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    request = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "1",
        "-subj",
        "/CN=localhost",
    ]
    subprocess.run([*request, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    probe = free_port()
    server = comfy(
        preload=f"probe: {{port: {probe}}}\nmodels: [{{vae: taesd3}}]",
        args=["--tls-keyfile", str(key), "--tls-certfile", str(certificate)],
    )
    trusting = ssl.create_default_context(cafile=str(certificate))
    trusting.check_hostname = False
    for path in ("/ready", "/api/ready", "/v2/health/ready"):
        connection = HTTPSConnection(LOOPBACK, server.port, context=trusting, timeout=30)
        connection.request("GET", path)
        answer = connection.getresponse()
        assert (200, "no-store") == (answer.status, answer.headers["Cache-Control"]), path
        assert json.loads(answer.read())
        connection.close()
    assert 200 == ask(f"http://{LOOPBACK}:{probe}/ready").status
