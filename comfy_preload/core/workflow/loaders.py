"""The loader calls in a workflow.

Which nodes read model files and give models, with which values, and what they need first.

What a node is follows from what it does. A loader has a model file among its values (or is made to have one:
its lists offer model files), gives something that is neither a plain value nor data such as an image, and
needs no model of another node.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from comfy_preload.core.errors import Problem, problem
from comfy_preload.core.node_types import PLAIN_TYPES, NodeInput, NodeSpec, NodeTypes
from comfy_preload.core.workflow.graph import shown
from comfy_preload.core.workflow.model_names import is_model_name, model_names
from comfy_preload.core.workflow.reader import Workflow
from comfy_preload.core.workflow.unknown import linked, links_of, reached_from, unknown, users_of
from comfy_preload.core.workflow.widgets import is_widget

MODEL_TYPES = frozenset(
    {"BACKGROUND_REMOVAL", "CLIP", "CLIP_VISION", "CONTROL_NET", "GLIGEN", "MODEL_PATCH", "PHOTOMAKER"}
)
MODEL_ENDINGS = ("MODEL", "VAE", "ENCODER")
"""What types of models are called, where a node has no model file among its values to go by.

`taesd`, `pixel_space`.
"""
_RESULTS = frozenset({"IMAGE", "MASK", "LATENT", "AUDIO", "VIDEO", "WEBCAM", "SVG", "MESH", "VOXEL"})
_BETWEEN = frozenset(
    {"CONDITIONING", "NOISE", "SIGMAS", "SAMPLER", "GUIDER", "SEGS", "BBOX", "POSE_KEYPOINT"}
)
WORK = _RESULTS | _BETWEEN | {"CLIP_VISION_OUTPUT", "AUDIO_ENCODER_OUTPUT"}
"""What a workflow makes and works on, in ComfyUI's types and those that many plugins share."""
_LOADS = re.compile(r"(?<!up)(?<!un)(?<!off)load", re.IGNORECASE)

Node = Mapping[str, Any]
Prompt = Mapping[str, Node]


@dataclass(frozen=True)
class Call:
    """One loader node. `inputs` holds plain values; `links` the others, by node and output of `feeds`."""

    node_id: str
    class_type: str
    inputs: Mapping[str, Any]
    links: Mapping[str, tuple[str, int]] = field(default_factory=dict[str, tuple[str, int]])
    feeds: Prompt = field(default_factory=dict[str, Node])
    """The nodes that run before it, in API format: settings, and loaders of their own."""


@dataclass(frozen=True)
class Left:
    """A node that reads a model file and cannot be called ahead, and why."""

    node_id: str
    class_type: str
    problem: Problem
    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class Loaders:
    """What a workflow loads."""

    calls: tuple[Call, ...] = ()
    """In the order of the prompt."""
    left: tuple[Left, ...] = ()
    """What is loaded by the first prompt, or by a warm-up."""


def is_model(kind: str) -> bool:
    """Does the name of this type say that it is a model?"""
    return any(word in MODEL_TYPES or word.endswith(MODEL_ENDINGS) for word in kind.upper().split(","))


def is_loader(spec: NodeSpec, inputs: Mapping[str, Any] | None = None) -> bool:
    """A class that gives a model and needs no other node.

    `inputs`: the values of one, which may name a model file.
    """
    return _gives_model(spec, inputs or {}) and not any(i.required and _is_link(i) for i in spec.inputs)


def _gives_model(spec: NodeSpec, inputs: Mapping[str, Any]) -> bool:
    """Does it read a model file, or load without one named, and give something that may be the model?"""
    given = [kind for kind in spec.outputs if not _is_data(kind)]
    if (
        not given or spec.name.startswith("ComfyPreload_") or spec.api_node
    ):  # hands out what the plan has; runs elsewhere
        return False
    offered = (option for i in spec.inputs for option in i.options or () if isinstance(option, str))
    if any(map(is_model_name, offered)) or any(_files(spec, inputs)) or any(map(is_model, given)):
        return True
    # a detector, a face model: its files have names of their own, and it only loads
    return _says_load(spec) and len(given) == len(spec.outputs)


def loader_calls(workflow: Workflow, types: NodeTypes) -> Loaders:
    """Every loader node that ComfyUI would run, and every other node that reads a model file."""
    return _Search(workflow, types).found()


class _Search:
    """One workflow, looked through once."""

    def __init__(self, workflow: Workflow, types: NodeTypes) -> None:
        self._workflow = workflow
        self._prompt = workflow.prompt
        self._specs = {name: types.node(node["class_type"]) for name, node in workflow.prompt.items()}
        self._users = users_of(workflow.prompt)
        self._loads: dict[str, bool] = {}

    def found(self) -> Loaders:
        calls: dict[str, Call] = {}
        left: dict[str, Left] = {}
        for name, node in self._prompt.items():
            spec = self._specs[name]
            if spec is None:
                continue
            named = (*_files(spec, node["inputs"]), *self._workflow.unsent.get(name, ()))
            files = tuple(dict.fromkeys(named))
            loads = self._is_loader(name)
            if name not in self._workflow.live:
                made = problem("workflow_node_unused", node=shown(name), type=shown(spec.name))
            else:
                made = self._call(name, spec) if loads else self._why_not(name, spec)
            if isinstance(made, Call):
                calls[name] = made
            elif loads or files or (_says_load(spec) and made.code == "loader_takes_model"):
                left[name] = Left(name, spec.name, made, files)
        for name in self._only_settings(calls):
            call = calls.pop(name)
            if not any(name in other.feeds for other in calls.values()):
                spec = self._specs[name] or NodeSpec(call.class_type)
                left[name] = Left(
                    name, spec.name, self._why_not(name, spec), tuple(_files(spec, call.inputs))
                )
        foreign = (
            Left(name, node.type, unknown(name, node), node.files)
            for name, node in self._workflow.foreign.items()
            if node.files
        )
        run_before = {name for call in calls.values() for name in call.feeds}
        others = (one for name, one in left.items() if name not in run_before)
        return Loaders(tuple(calls.values()), (*others, *foreign))

    def _is_loader(self, name: str) -> bool:
        """As `is_loader`, by what the node is given here.

        Settings, or a model that it does more with than to change it.
        """
        if name not in self._loads:
            spec, node = self._specs[name], self._prompt[name]
            self._loads[name] = (
                spec is not None
                and _gives_model(spec, node["inputs"])
                and not any(self._hinders(spec, given, node) for given in spec.inputs if _is_link(given))
            )
        return self._loads[name]

    def _hinders(self, spec: NodeSpec, given: NodeInput, node: Node) -> bool:
        """Is this an input for which the node cannot be called ahead?"""
        source = linked(node["inputs"].get(given.name))
        if source is None:
            return given.required
        if _is_work(given.type):
            return True
        if not given.required and given.type not in spec.outputs:
            return False
        # a model that the node needs, or changes: a LoRA is put on it
        return is_model(given.type) or any(map(self._is_loader, self._above(source)))

    def _above(self, name: str) -> frozenset[str]:
        return reached_from(self._prompt, [name])

    def _why_not(self, name: str, spec: NodeSpec) -> Problem:
        node = self._prompt[name]
        models = (
            i for i in spec.inputs if _is_link(i) and not _is_data(i.type) and self._hinders(spec, i, node)
        )
        if first := next(models, None):
            return problem("loader_takes_model", loader=spec.name, type=first.type, input=first.name)
        return problem("workflow_file_inside", node=shown(name), type=shown(spec.name))

    def _call(self, name: str, spec: NodeSpec) -> Call | Problem:
        inputs: dict[str, Any] = {}
        links: dict[str, tuple[str, int]] = {}
        for key, value in self._prompt[name]["inputs"].items():
            plain = self._plain(value)
            if plain is not None:
                inputs[key] = plain[0]
            elif self._can_feed(source := str(linked(value))):
                links[key] = (source, value[1])
            else:
                return problem(
                    "workflow_value_computed", node=shown(name), loader=spec.name, input=shown(key)
                )
        if lost := next(iter(self._workflow.lost.get(name, {}).values()), None):
            return lost
        feeds = reached_from(self._prompt, [node for node, _ in links.values()])
        return Call(name, spec.name, inputs, links, {n: self._prompt[n] for n in self._prompt if n in feeds})

    def _can_feed(self, name: str) -> bool:
        """Does this node, with all that it needs, do no more than hold settings and load models?"""
        for one in self._above(name):
            spec = self._specs.get(one)
            if spec is None or spec.output_node or spec.api_node or one in self._workflow.lost:
                return False
            if self._is_loader(one):
                continue
            kinds = {i.name: i.type for i in spec.inputs}
            taken = [kinds.get(key, "") for key, _ in links_of(self._prompt[one])]
            if any(map(_is_work, (*taken, *spec.outputs))) or any(map(is_model, taken)):
                return False
        return True

    def _only_settings(self, calls: Mapping[str, Call]) -> list[str]:
        """Calls that give lists of LoRAs, or name files for other loaders and for nothing else."""
        found: list[str] = []
        for name in calls:
            spec = self._specs[name]
            given = [kind for kind in spec.outputs if not _is_data(kind)] if spec is not None else []
            users = [user for user in self._users.get(name, ()) if user in self._workflow.live]
            for_loaders = users and all(
                name in calls[user].feeds if user in calls else False for user in users
            )
            if not any(map(is_model, given)) and (
                for_loaders or all("LORA" in kind.upper() for kind in given)
            ):
                found.append(name)
        return found

    def _plain(self, value: Any) -> tuple[Any] | None:
        """The value of an input, in a tuple; None if it is what a node makes.

        A node that has one input and hands it on, as ComfyUI's Primitive nodes do, is looked through.
        """
        hops = 0
        while (source := linked(value)) is not None:
            node, spec = self._prompt.get(source), self._specs.get(source)
            hops += 1
            if node is None or spec is None or hops > len(self._prompt) or not hands_on(spec):
                return None
            name = spec.inputs[0].name
            if name not in node["inputs"]:
                return None
            value = node["inputs"][name]
        return (value["__value__"],) if isinstance(value, dict) and "__value__" in value else (value,)


def hands_on(spec: NodeSpec) -> bool:
    """A class with one plain input that it gives as its one output."""
    one = len(spec.inputs) == len(spec.outputs) == 1 and not spec.output_node
    return one and spec.inputs[0].type == spec.outputs[0] and spec.outputs[0] in PLAIN_TYPES


def _says_load(spec: NodeSpec) -> bool:
    return _LOADS.search(spec.name) is not None


def _is_data(kind: str) -> bool:
    return all(word.strip() in PLAIN_TYPES | WORK | {"*"} for word in kind.upper().split(","))


def _is_work(kind: str) -> bool:
    """Data that is computed: a node with it does more than hold settings."""
    return any(word.strip() in WORK for word in kind.upper().split(","))


def _is_link(declared: NodeInput) -> bool:
    return not is_widget(declared) and declared.type not in PLAIN_TYPES


def _files(spec: NodeSpec, inputs: Mapping[str, Any]) -> Iterator[str]:
    """Model files among the values of a node. What is written into a text area is a prompt."""
    texts = {i.name for i in spec.inputs if i.flag("multiline")}
    for key, value in inputs.items():
        if key not in texts and linked(value) is None:
            yield from model_names(value)
