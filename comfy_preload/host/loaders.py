"""Loader nodes: calling them, and what a call of theirs comes to.

Source: nodes.py, folder_paths.py, execution.py (`_async_map_node_over_list`), and for V3 nodes
comfy_api/latest/_io.py. Which of V1 and V3 a class is may change between versions: asked each time.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import comfy.utils
from comfy_api.internal import _ComfyNodeInternal, _NodeOutputInternal

from comfy_preload.core.host import LoaderSpec, Outputs

import nodes

_STAND_INS = {
    "PROMPT": {},
    "DYNPROMPT": None,
    "EXTRA_PNGINFO": None,
    "UNIQUE_ID": "preload",
    "AUTH_TOKEN_COMFY_ORG": None,
    "API_KEY_COMFY_ORG": None,
}
"""Hidden inputs of V1 nodes outside a graph of the user's (get_input_data, execution.py)."""


def node_class(name: str) -> type[Any] | None:
    return nodes.NODE_CLASS_MAPPINGS.get(name)


def is_v3(cls: type[Any]) -> bool:
    return issubclass(cls, _ComfyNodeInternal)


def identity(cls: type[Any]) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def usable(outputs: Outputs) -> str:
    """Empty if the executor would take these outputs as they are, else what they are instead."""
    if isinstance(outputs, _NodeOutputInternal):
        extra = [k for k in ("expand", "block_execution") if getattr(outputs, k, None) is not None]
        return f"a NodeOutput with {' and '.join(extra)}" if extra else ""
    return "" if isinstance(outputs, tuple | list) and outputs else f"a {type(outputs).__name__}"


def pickles_are_safe() -> bool:
    """ComfyUI opens pickles with `weights_only`: `ALWAYS_SAFE_LOAD`, comfy/utils.py (since torch 2.4)."""
    return bool(getattr(comfy.utils, "ALWAYS_SAFE_LOAD", False))


async def call(spec: LoaderSpec, inputs: Mapping[str, Any]) -> Outputs:
    """Run the node once, outside a graph. Raises whatever it raises."""
    cls = nodes.NODE_CLASS_MAPPINGS[spec.name]
    given = dict(inputs)
    if is_v3(cls):
        cls.VALIDATE_CLASS()
        target = cls.PREPARE_CLASS_CLONE(None)
    else:
        target = cls()
        given |= {name: _STAND_INS.get(kind) for name, kind in hidden(cls).items()}
        if getattr(cls, "INPUT_IS_LIST", False):
            given = {name: [value] for name, value in given.items()}
    result = getattr(target, cls.FUNCTION)(**given)
    return await result if inspect.isawaitable(result) else result


def arguments(spec: LoaderSpec, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """`inputs` as a watcher will see them: the function's defaults applied."""
    cls = nodes.NODE_CLASS_MAPPINGS[spec.name]
    if getattr(cls, "INPUT_IS_LIST", False):
        inputs = {name: [value] for name, value in inputs.items()}
    _, function, binds = entry(cls)
    return bind(function, binds, hidden(cls), (), inputs)


def entry(cls: type[Any]) -> tuple[str, Callable[..., Any], int]:
    """Name, plain function, and how many leading arguments are the object or class (0 or 1).

    V3: `execute`; its FUNCTION, EXECUTE_NORMALIZED, is final and calls `cls.execute`.
    """
    name = "execute" if is_v3(cls) else cls.FUNCTION
    descriptor = inspect.getattr_static(cls, name)
    if isinstance(descriptor, staticmethod):
        return name, descriptor.__func__, 0
    return name, getattr(descriptor, "__func__", descriptor), 1


def bind(
    function: Callable[..., Any],
    binds: int,
    hidden: Mapping[str, str],
    args: tuple[Any, ...],
    given: Mapping[str, Any],
) -> dict[str, Any]:
    """Arguments by name, defaults applied, `**kwargs` laid open, hidden inputs left out."""
    bound = inspect.signature(function).bind_partial(*([None] * binds), *args, **given)
    bound.apply_defaults()
    named: dict[str, Any] = {}
    for index, (name, parameter) in enumerate(bound.signature.parameters.items()):
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            named |= bound.arguments.get(name, {})
        elif index >= binds and name in bound.arguments:
            named[name] = bound.arguments[name]
    return {name: value for name, value in named.items() if name not in hidden}


def hidden(cls: type[Any]) -> dict[str, str]:
    """Hidden inputs of a V1 node: {argument: what the executor puts there}."""
    return {} if is_v3(cls) else dict(cls.INPUT_TYPES().get("hidden", {}))
