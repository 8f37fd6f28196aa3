"""Python's garbage collector, off while ComfyUI imports.

Imports make hundreds of thousands of objects that all stay, and each full collection walks them again. The
collector comes back before any model is loaded, whatever fails: at the latest after LIMIT seconds.
"""

from __future__ import annotations

import gc
import threading

LIMIT = 120.0
"""Seconds after which the collector is switched on again even if ComfyUI never got to open its port."""


class CollectorPause:
    """Switches the collector off, and on again. Does nothing if somebody else had switched it off before."""

    def __init__(self) -> None:
        self._timer: threading.Timer | None = None

    def begin(self) -> None:
        """Switch the collector off."""
        if not gc.isenabled():
            return
        gc.disable()
        self._timer = threading.Timer(LIMIT, self.end)
        self._timer.daemon = True
        self._timer.start()

    def end(self) -> None:
        """Switch it on again. May be called again.

        What lives now is not frozen (`gc.freeze`): the executor's first caches would never be freed.
        """
        timer, self._timer = self._timer, None
        if timer is None:
            return
        timer.cancel()
        if timer is not threading.current_thread():
            timer.join()
        gc.enable()
