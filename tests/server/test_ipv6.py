"""A real ComfyUI on both families of addresses: its port, the early probe and commands."""

from __future__ import annotations

import socket

import pytest

from tests.server.conftest import Comfy
from tests.support.comfy import free_port
from tests.support.reply import ask

pytestmark = pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no IPv6 here")


@pytest.mark.parametrize(
    ("listen", "hosts"), [("127.0.0.1,::1", ("127.0.0.1", "[::1]")), ("::1", ("[::1]",))]
)
def test_listens(comfy: Comfy, listen: str, hosts: tuple[str, ...]) -> None:
    """As the chart has it for dual stack and for IPv6 alone: probes answer, and commands are taken."""
    probe = free_port()
    server = comfy(
        preload=f"probe: {{port: {probe}}}\nmodels: [{{vae: taesd3}}]", args=["--listen", listen], wait=False
    )
    first = f"http://{hosts[0]}"
    server.wait(lambda: _status(f"{first}:{probe}/ready") == 200, "ready", deadline=120)

    for host in hosts:
        for port in (probe, server.port):
            assert 200 == ask(f"http://{host}:{port}/ready").status
            assert 200 == ask(f"http://{host}:{port}/livez").status
        assert 202 == ask(f"http://{host}:{server.port}/preload/wake", method="POST").status
    assert ("127.0.0.1" in listen) == (_status(f"http://127.0.0.1:{probe}/ready") == 200)


def _status(url: str) -> int | None:
    try:
        return ask(url, timeout=5).status
    except OSError:
        return None
