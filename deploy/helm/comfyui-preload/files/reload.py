"""Sends POST /preload/reload when the mounted settings change: a sidecar of the chart. Standard library only.

    reload.py /etc/comfyui-preload http://127.0.0.1:8188

The token is read from the file that PRELOAD_TOKEN_FILE names, again for each command. What could not be
delivered is tried again after five seconds. The kubelet updates a mounted ConfigMap within a minute or two.
"""

from __future__ import annotations

import hashlib
import os
import signal
import ssl
import sys
import threading
from pathlib import Path
from urllib.request import Request, urlopen


def state(folder: Path) -> str:
    """Return a hash of all files of the folder, names included; hidden ones are the kubelet's own."""
    total = hashlib.sha256()
    for path in sorted(one for one in folder.iterdir() if not one.name.startswith(".")):
        total.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return total.hexdigest()


def reload(server: str) -> int:
    """Send the command and return the status of the answer.

    Raises:
        OSError: Nobody answered, or with an error.
    """
    token = Path(os.environ["PRELOAD_TOKEN_FILE"]).read_text(encoding="utf-8").strip()
    request = Request(f"{server}/preload/reload", method="POST", headers={"Authorization": f"Bearer {token}"})
    with urlopen(request, timeout=10, context=_unchecked()) as answer:
        return int(answer.status)


def _unchecked() -> ssl.SSLContext:
    """The server is on the same machine, and its certificate is for another name."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def main() -> None:
    """Watch until SIGTERM."""
    folder, server = Path(sys.argv[1]), sys.argv[2].rstrip("/")
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    known = state(folder)
    while not stop.wait(5):
        try:
            now = state(folder)
            if now != known:
                print(f"reload: the settings changed: HTTP {reload(server)}", flush=True)
                known = now
        except OSError as error:
            print(f"reload: {error}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
