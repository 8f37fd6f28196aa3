"""Loader nodes: calling them, and what a call of theirs comes to.

Source: nodes.py, folder_paths.py, execution.py (`get_input_data`, `_async_map_node_over_list`,
`IsChangedCache`, `get_output_from_returns`), and for V3 nodes comfy_api/latest/_io.py. Which of V1 and V3 a
class is may change between versions: asked each time.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from typing import Any

import comfy.utils
import execution
from comfy_api.internal import _ComfyNodeInternal, _NodeOutputInternal, first_real_override
from comfy_execution.graph import DynamicPrompt
from comfy_execution.graph_utils import ExecutionBlocker

from comfy_preload.core.host import GraphNode, Outputs
from comfy_preload.core.node_types import LoaderSpec
from comfy_preload.host.devices import values
from comfy_preload.host.node_classes import node_classes

_HIDDEN = frozenset(
    {
        "PROMPT",
        "DYNPROMPT",
        "EXTRA_PNGINFO",
        "UNIQUE_ID",
        "AUTH_TOKEN_COMFY_ORG",
        "API_KEY_COMFY_ORG",
        "COMFY_USAGE_SOURCE",
    }
)
"""Kinds of hidden inputs of V1 nodes that the executor fills in, from the graph and not from the node's
inputs (`get_input_data`). A hidden input of any other kind is not passed, or is what a program put into the
prompt."""


def is_v3(cls: type[Any]) -> bool:
    return issubclass(cls, _ComfyNodeInternal)


def class_id(cls: type[Any]) -> str:
    """Return the first name that this very class is registered under.

    Not its qualified name: a pack may make many classes in one function (ComfyUI-MultiGPU's
    `override_class`).
    """
    return next((name for name, known in node_classes().items() if known is cls), cls.__qualname__)


def usable(outputs: Outputs) -> str:
    """Empty if the executor would take these outputs as they are, else what they are instead."""
    if isinstance(outputs, _NodeOutputInternal):
        extra = [k for k in ("expand", "block_execution") if getattr(outputs, k, None) is not None]
        return f"a NodeOutput with {' and '.join(extra)}" if extra else ""
    if isinstance(outputs, dict):
        if "expand" in outputs:
            return "a dict with expand"
        if not isinstance(outputs.get("result"), tuple | list):
            return "a dict without a result"
    elif not isinstance(outputs, tuple | list):
        return f"a {type(outputs).__name__}"
    found = values(outputs)
    if any(isinstance(value, ExecutionBlocker) for value in found):
        return "an output that blocks what follows"
    return "" if found else "no outputs"


def pickles_are_safe() -> bool:
    """ComfyUI opens pickles with `weights_only` (`load_torch_file`, comfy/utils.py).

    0.3.64 to 0.3.75 say in `ALWAYS_SAFE_LOAD` whether their torch can; later ones (0.33.0) have no such name
    and always do.
    """
    return bool(getattr(comfy.utils, "ALWAYS_SAFE_LOAD", True))


async def call(spec: LoaderSpec, inputs: Mapping[str, Any], node: GraphNode) -> Outputs:
    """Run the node once, as the executor would in that graph. Raises whatever it raises."""
    cls = node_classes()[spec.name]
    given, v3_data = _given(cls, inputs, node)
    if is_v3(cls):
        cls.VALIDATE_CLASS()
        target = cls.PREPARE_CLASS_CLONE(v3_data)
    else:
        target = cls()
    result = getattr(target, cls.FUNCTION)(**given)
    return await result if inspect.isawaitable(result) else result


def _given(cls: type[Any], inputs: Mapping[str, Any], node: GraphNode) -> tuple[dict[str, Any], Any]:
    """Return what the executor calls a node with.

    Its inputs with the hidden ones, and what V3 nodes keep beside them.
    """
    extra = {"extra_pnginfo": {"workflow": node.workflow}} if node.workflow is not None else {}
    found = execution.get_input_data(
        dict(inputs), cls, node.id, dynprompt=DynamicPrompt(node.prompt), extra_data=extra
    )
    lists, v3_data = found[0], found[2]
    if getattr(cls, "INPUT_IS_LIST", False):
        return lists, v3_data
    return {name: value[0] for name, value in lists.items()}, v3_data


def changes(spec: LoaderSpec, inputs: Mapping[str, Any], node: GraphNode) -> str | None:
    """See `Loaders.changes` in core/host.py."""
    cls = node_classes()[spec.name]
    return changes_of(cls, _given(cls, inputs, node)[0])


def changes_of(cls: type[Any], given: Mapping[str, Any]) -> str | None:
    """Return the answer of a class to `given`, the arguments that its function is called with.

    As the executor does, the node's own id is passed on and nothing else of the graph (`IsChangedCache.get`,
    which has no dynprompt). What raises counts as changed, as it does there; so does what has to be awaited,
    because a watched call may not wait.
    """
    if is_v3(cls):
        declared = first_real_override(cls, "fingerprint_inputs") is not None
        ask = cls.PREPARE_CLASS_CLONE(None).fingerprint_inputs if declared else None
    else:
        ask = getattr(cls, "IS_CHANGED", None)
    if ask is None:
        return ""
    kinds = hidden(cls)
    blank = {"PROMPT": {}}
    asked = {
        name: value if kinds.get(name, "UNIQUE_ID") == "UNIQUE_ID" else blank.get(kinds[name])
        for name, value in given.items()
    }
    try:
        answer = ask(**asked)
        if inspect.iscoroutine(answer):
            answer.close()
            return None
        return json.dumps(answer, sort_keys=True, allow_nan=False, default=repr)
    except Exception:  # noqa: BLE001 — a node's own function
        return None


def arguments(spec: LoaderSpec, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """`inputs` as a watcher will see them: the function's defaults applied."""
    cls = node_classes()[spec.name]
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
    if is_v3(cls):
        return {}
    declared = cls.INPUT_TYPES().get("hidden", {})
    return {name: kind for name, kind in declared.items() if isinstance(kind, str) and kind in _HIDDEN}
