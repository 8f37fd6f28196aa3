"""Commands on a real ComfyUI.

Taken from here or with the token, from nobody else; and the token is shown to nobody.
"""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.server.conftest import Comfy
from tests.support.comfy import ComfyServer
from tests.support.readings import every_body

TOKEN = "s3cret-of-this-test"  # noqa: S105 — of this test
STRANGE: dict[str, Mapping[str, str]] = {
    "dns-rebinding": {
        "Host": "evil.example",
        "Origin": "http://evil.example",
        "Sec-Fetch-Site": "same-origin",
    },
    "cross-site-form": {
        "Origin": "https://evil.example",
        "Sec-Fetch-Site": "cross-site",
        "Content-Type": "text/plain",
    },
    "sandboxed-frame": {"Origin": "null", "Content-Type": "text/plain"},
    "host-trick": {"Host": "localhost@evil"},
    "proxy": {"X-Forwarded-For": "10.0.0.7"},
    "wrong-token": {"Host": "gpu-1", "Authorization": "Bearer wrong"},
}


@pytest.fixture(scope="module", params=[[], ["--enable-cors-header", "*"]], ids=["as-usual", "cors"])
def server(request: pytest.FixtureRequest, module_comfy: Comfy) -> ComfyServer:
    """With `--enable-cors-header` ComfyUI's own check of the origin is gone."""
    started = module_comfy(
        preload="models: [{vae: taesd}]\n", env={"PRELOAD_TOKEN": TOKEN}, args=request.param
    )
    started.wait_ready()
    return started


@pytest.mark.parametrize("prefix", ["", "/api"], ids=["plain", "api"])
@pytest.mark.parametrize("headers", STRANGE.values(), ids=list(STRANGE))
def test_refused(server: ComfyServer, headers: Mapping[str, str], prefix: str) -> None:
    """A stranger gets 401, or 403 from ComfyUI's own check of the origin, and nothing is ordered.

    Two of the commands: thirty refusals in a minute would make it 429.
    """
    before = server.get("/preload").json["jobs"]

    statuses = {
        server.post(f"{prefix}/preload/{command}", headers=headers).status for command in ("reload", "sleep")
    }
    assert statuses in ({401}, {403})
    assert before == server.get("/preload").json["jobs"]


@pytest.mark.parametrize(
    "headers", [{}, {"Host": "gpu-1", "Authorization": f"Bearer {TOKEN}"}], ids=["from-here", "token"]
)
def test_taken(server: ComfyServer, headers: Mapping[str, str]) -> None:
    """From this machine, and with the token from anywhere, a command is taken."""
    reply = server.post("/preload/wake", headers=headers)

    assert 202 == reply.status
    assert 200 == server.get(reply.headers["Location"]).status


def test_token_is_not_told(server: ComfyServer) -> None:
    """The token is in no answer and in no line of the log."""
    assert TOKEN not in every_body(server) + server.log + server.get("/preload/metrics").text
