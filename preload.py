"""The command line: `python preload.py check | plan | capture | wait | trace | imports | convert`.

What ComfyUI runs is in `comfy_preload/preloader.py`: settings, plan, preflight, load, warm-up.
"""

from __future__ import annotations

import sys

from comfy_preload.cli import main

if __name__ == "__main__":
    sys.exit(main())
