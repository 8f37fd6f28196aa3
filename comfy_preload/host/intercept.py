"""Standing before a loader node: what was preloaded is handed out instead of being loaded again.

The only thing in ComfyUI that this plugin changes: one attribute of each node class that the plan
names. It keeps `__wrapped__` and comes off again.
"""

from __future__ import annotations

import functools
import inspect
from typing import Any

from comfy_preload.core.host import Outputs, Watcher
from comfy_preload.core.node_types import LoaderSpec
from comfy_preload.host.loaders import bind, changes_of, entry, hidden
from comfy_preload.host.node_classes import node_classes


class Watch:
    """One watched node class."""

    def __init__(self, spec: LoaderSpec, watcher: Watcher) -> None:
        """Put `watcher` before the node's function, on that class and no other."""
        self._spec = spec
        self._watcher = watcher
        self._cls: type[Any] = node_classes()[spec.name]
        self._name, self._function, self._binds = entry(self._cls)
        self._hidden = hidden(self._cls)
        self._before = self._cls.__dict__.get(self._name)
        self._active = True
        setattr(self._cls, self._name, self._wrapper())
        self._placed = self._cls.__dict__[self._name]

    def remove(self) -> None:
        """Take it off. If someone has wrapped it since, it stays but only passes calls through."""
        self._active = False
        if self._cls.__dict__.get(self._name) is not self._placed:
            return
        if self._before is None:
            delattr(self._cls, self._name)
        else:
            setattr(self._cls, self._name, self._before)

    def _wrapper(self) -> Any:
        function = self._function

        @functools.wraps(function)
        async def later(*args: Any, **given: Any) -> Outputs:
            asked, kept = self._ask(args, given)
            return kept if kept is not None else self._keep(asked, await function(*args, **given))

        @functools.wraps(function)
        def now(*args: Any, **given: Any) -> Outputs:
            asked, kept = self._ask(args, given)
            return kept if kept is not None else self._keep(asked, function(*args, **given))

        wrapper = later if inspect.iscoroutinefunction(function) else now
        descriptor = inspect.getattr_static(self._cls, self._name)
        return type(descriptor)(wrapper) if isinstance(descriptor, classmethod | staticmethod) else wrapper

    def _ask(
        self, args: tuple[Any, ...], given: dict[str, Any]
    ) -> tuple[tuple[dict[str, Any], str] | None, Outputs | None]:
        """Return what the call is known by, and the outputs kept for it.

        Both are None for a call to pass through.
        """
        if not self._active or (self._binds and not self._is_own(args[0])):
            return None, None
        try:
            bound = bind(self._function, self._binds, self._hidden, args[self._binds :], given)
        except TypeError:  # the node itself will say what is wrong with its arguments
            return None, None
        changes = changes_of(self._cls, given)
        if changes is None:
            return None, None
        return (bound, changes), self._watcher.recall(self._spec, bound, changes)

    def _keep(self, asked: tuple[dict[str, Any], str] | None, outputs: Outputs) -> Outputs:
        if asked is not None:
            self._watcher.keep(self._spec, *asked, outputs)
        return outputs

    def _is_own(self, owner: Any) -> bool:
        """Is the call made on this very class? A subclass inherits the function but is another node.

        The executor calls V3 nodes on a locked clone of the class (execution.py), which is a subclass
        with the same schema function.
        """
        if not isinstance(owner, type):
            return type(owner) is self._cls
        schema = getattr(owner, "define_schema", None)
        own = getattr(self._cls, "define_schema", None)
        return owner is self._cls or (
            issubclass(owner, self._cls)
            and getattr(schema, "__func__", None) is getattr(own, "__func__", self)
        )
