"""ComfyUI's web server object, if there is one. Imports nothing of ComfyUI itself."""

from __future__ import annotations

import sys
from typing import Any


def prompt_server() -> Any | None:
    """`PromptServer.instance`, or None where a library embeds ComfyUI without a server.

    Source: server.py, `PromptServer.__init__` sets `PromptServer.instance` (0.3.64 to 0.33.0).
    """
    module = sys.modules.get("server")
    return getattr(getattr(module, "PromptServer", None), "instance", None)
