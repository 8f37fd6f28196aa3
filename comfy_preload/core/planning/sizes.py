"""The sizes of the images that a prompt makes: read, and set for a warm-up."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from comfy_preload.core.node_types import NodeTypes
from comfy_preload.core.workflow.loaders import hands_on
from comfy_preload.core.workflow.unknown import linked

if TYPE_CHECKING:
    from comfy_preload.core.settings.schema import Shape

Prompt = dict[str, dict[str, Any]]


def sized(prompt: Prompt, shape: Shape, types: NodeTypes) -> bool:
    """Set the size in place where a node makes a latent of a size.

    False if something of `shape` found no place.

    A size that comes from a node which only hands on a value is set there.
    """
    given = {"width": shape.width, "height": shape.height, "batch_size": shape.batch}
    places = list(_sizes(prompt, types))
    reached = {key: False for key, value in given.items() if value is not None}
    for place in places:
        for key in reached:
            if key in place:
                reached[key] |= _set(prompt, *place[key], given[key], types)
    return all(reached.values())


def _set(prompt: Prompt, node: str, key: str, value: Any, types: NodeTypes) -> bool:
    """Set an input, or the one it comes from. False if it is computed."""
    for _ in range(len(prompt)):
        source = linked(prompt[node]["inputs"].get(key))
        if source is None:
            prompt[node]["inputs"][key] = value
            return True
        spec = types.node(prompt[source]["class_type"]) if source in prompt else None
        if spec is None or not hands_on(spec):
            return False
        node, key = source, spec.inputs[0].name
    return False


def _sizes(prompt: Prompt, types: NodeTypes) -> Iterator[dict[str, tuple[str, str]]]:
    """Of every node that starts from a size and from no image.

    The inputs for width, height and batch_size.
    """
    for name, node in prompt.items():
        spec = types.node(node["class_type"])
        if spec is None or "LATENT" not in spec.outputs:
            continue
        if any(i.required and i.type in ("LATENT", "IMAGE") for i in spec.inputs):
            continue
        for key in node["inputs"]:
            before, found, after = key.rpartition("width")
            other = f"{before}height{after}"
            if found and other in node["inputs"]:
                batch = next(
                    (k for k in ("batch_size", f"{before}batch_size", "batch") if k in node["inputs"]), None
                )
                yield {
                    "width": (name, key),
                    "height": (name, other),
                    **({"batch_size": (name, batch)} if batch else {}),
                }
                break


def shape_of(prompt: Prompt, types: NodeTypes) -> str:
    """What a run goes through, for reading: '1024x1024, batch 1'."""
    sizes: dict[str, None] = {}
    for place in _sizes(prompt, types):
        values = {key: _value(prompt, *at, types) for key, at in place.items()}
        if isinstance(values["width"], int) and isinstance(values["height"], int):
            batch = values.get("batch_size")
            sizes[
                f"{values['width']}x{values['height']}"
                + (f", batch {batch}" if isinstance(batch, int) else "")
            ] = None
    return "; ".join(sizes) or "as the workflow has it"


def _value(prompt: Prompt, node: str, key: str, types: NodeTypes) -> Any:
    for _ in range(len(prompt)):
        value = prompt[node]["inputs"].get(key)
        source = linked(value)
        spec = types.node(prompt[source]["class_type"]) if source is not None and source in prompt else None
        if source is None or spec is None or not hands_on(spec):
            return value
        node, key = source, spec.inputs[0].name
    return None
