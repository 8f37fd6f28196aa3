"""The command line: `python preload.py check | plan | capture | wait | trace | imports | convert`.

Imports no torch.

Importing this costs nothing: a health check runs it every few seconds.
"""

from __future__ import annotations

from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code: 0 good, 1 findings or not ready, 2 usage."""
    from comfy_preload.cli.parser import run

    return run(argv)
