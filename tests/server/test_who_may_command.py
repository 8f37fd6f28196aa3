"""`commands:` and PRELOAD_TOKEN_FILE in a real ComfyUI.

Who may, what is logged, what is counted, a token that is replaced.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.server.conftest import Comfy


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_token_only(comfy: Comfy, tmp_path: Path) -> None:
    """From this machine only with the token; another one, written into the file, counts from then on."""
    file = tmp_path / "token"
    file.write_text("first\n", encoding="utf-8")
    server = comfy(
        preload="commands: token\nmodels: [{unet: tiny.safetensors}]", env={"PRELOAD_TOKEN_FILE": str(file)}
    )
    server.wait_ready()
    codes = [
        server.post("/preload/reload", headers=headers).status
        for headers in ({}, bearer("wrong"), bearer("first"))
    ]
    file.write_text("second\n", encoding="utf-8")
    codes += [server.post("/preload/reload", headers=bearer(word)).status for word in ("first", "second")]
    text = server.get("/preload/metrics").text

    assert [401, 401, 202, 401, 202] == codes
    assert "command reload from 127.0.0.1: unauthorized (HTTP 401)" in server.log
    assert "command reload from 127.0.0.1: accepted (HTTP 202)" in server.log
    assert 'comfyui_preload_commands_total{command="reload",result="unauthorized"} 3.0' in text
    assert 'comfyui_preload_commands_total{command="reload",result="accepted"} 2.0' in text
    assert not {"first", "second", "wrong"} & set(server.log.split())


@pytest.mark.parametrize("word", ["off", "tokn"])
def test_off(comfy: Comfy, word: str) -> None:
    """Off, and what is not a word of the settings.

    Nobody, whatever he sends, with models in the file and without.
    """
    server = comfy(
        preload=f"commands: {word}\nmodels: [{{unet: tiny.safetensors}}]", env={"PRELOAD_TOKEN": "x"}
    )
    reply = server.post("/preload/reload", headers=bearer("x"))

    assert (403, "command_refused") == (reply.status, reply.json["error"]["code"])
