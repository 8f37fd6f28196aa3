"""Python's garbage collector, off while ComfyUI imports, and without what was imported afterwards.

Imports make hundreds of thousands of objects that all stay, and each full collection walks them again: half a
second, in which no other thread runs. Collections come with the objects of a model that is built, after
prompts (`prompt_worker`, main.py 0.3.75), and after models were moved. The collector comes back before any
model is loaded, whatever fails: at the latest after LIMIT seconds.
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

    def keep_imports(self) -> None:
        """Leave what lives now out of every later collection, if the collector is off because of us.

        Call it while nodes are imported, before ComfyUI makes its executor: the executor's first caches are
        dropped one day, with the models in them, and would never be collected.
        """
        if self._timer is not None:
            gc.freeze()

    def end(self) -> None:
        """Switch it on again. May be called again."""
        timer, self._timer = self._timer, None
        if timer is None:
            return
        timer.cancel()
        if timer is not threading.current_thread():
            timer.join()
        gc.enable()
