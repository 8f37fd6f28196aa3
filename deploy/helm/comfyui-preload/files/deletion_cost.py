"""Writes the length of the queue into controller.kubernetes.io/pod-deletion-cost: a sidecar of the chart.

    deletion_cost.py http://127.0.0.1:PORT

So the replica with the fewest prompts goes first when a Deployment shrinks. Standard library only. It patches
its own pod and only when the number changed, at most every ten seconds.
"""

from __future__ import annotations

import json
import os
import signal
import ssl
import sys
import threading
from pathlib import Path
from urllib.request import Request, urlopen

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
ANNOTATION = "controller.kubernetes.io/pod-deletion-cost"
MOST = 2**31 - 1


def queue(probe: str) -> int:
    """Return how many prompts run or wait.

    Raises:
        OSError: The replica does not answer.
    """
    with urlopen(f"{probe}/preload", timeout=5) as answer:
        return min(MOST, int(json.load(answer)["queue_remaining"]))


def patch(cost: int, account: Path = ACCOUNT) -> None:
    """Annotate the own pod.

    Raises:
        OSError: The API server refused or could not be reached.
    """
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
    host = f"[{host}]" if ":" in host else host
    space = (account / "namespace").read_text(encoding="utf-8").strip()
    url = f"https://{host}:{port}/api/v1/namespaces/{space}/pods/{os.environ['POD_NAME']}"
    headers = {
        "Authorization": f"Bearer {(account / 'token').read_text(encoding='utf-8').strip()}",
        "Content-Type": "application/merge-patch+json",
    }
    body = json.dumps({"metadata": {"annotations": {ANNOTATION: str(cost)}}}).encode()
    request = Request(url, data=body, method="PATCH", headers=headers)
    with urlopen(request, timeout=10, context=ssl.create_default_context(cafile=str(account / "ca.crt"))):
        pass


def main() -> None:
    """Look every ten seconds until SIGTERM."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    known: int | None = None
    while not stop.wait(10):
        try:
            now = queue(sys.argv[1])
            if now != known:
                patch(now)
                known = now
        except OSError as error:
            print(f"deletion-cost: {error}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
