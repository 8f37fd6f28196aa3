"""A workflow -> the prompts of its warm-up.

Overrides and sizes applied, nothing saved or shown, all other work done.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from comfy_preload.core.errors import Problem, problem
from comfy_preload.core.node_types import PLAIN_TYPES, NodeSpec, NodeTypes, accepts
from comfy_preload.core.planning.sizes import Prompt, shape_of, sized
from comfy_preload.core.text import did_you_mean
from comfy_preload.core.workflow.graph import shown
from comfy_preload.core.workflow.reader import Workflow
from comfy_preload.core.workflow.unknown import linked, links_of, reached_from

if TYPE_CHECKING:
    from comfy_preload.core.settings.schema import Shape, WorkflowEntry

SINK = "ComfyPreload_Sink"
"""Stands in for nodes that save or show: takes anything, does nothing (host/prompts.py)."""
SINK_INPUTS = 16
RESULTS = PLAIN_TYPES | frozenset({"IMAGE", "MASK", "LATENT", "AUDIO", "VIDEO", "SVG", "MESH", "VOXEL", "*"})
"""Types of what a workflow makes: a node that takes nothing else saves or shows it."""
_QUIET = ("hide", "none", "off", "disable", "disabled", "no")
_SAVES = re.compile(r"\b(save|preview|sender)", re.IGNORECASE)


@dataclass(frozen=True)
class Run:
    """One prompt of a warm-up."""

    prompt: Prompt
    shape: str
    """What it goes through, for reading: '1024x1024, batch 1'."""


@dataclass(frozen=True)
class Prepared:
    """What a workflow comes to as a warm-up. With `problems` it is not run."""

    runs: tuple[Run, ...] = ()
    problems: tuple[Problem, ...] = ()
    notes: tuple[Problem, ...] = ()
    """What the settings ask for and what has no effect."""


def prepare(workflow: Workflow, given: WorkflowEntry, types: NodeTypes, name: str) -> Prepared:
    """Make the prompts of a warm-up: one for each shape, or one at the workflow's own size."""
    base: Prompt = {i: {**n, "inputs": copy.deepcopy(dict(n["inputs"]))} for i, n in workflow.prompt.items()}
    changed, wrong = override(base, given.overrides, name)
    if wrong:
        return Prepared(problems=wrong)
    runs: list[Run] = []
    notes: list[Problem] = []
    for shape in given.shapes or (None,):
        prompt = copy.deepcopy(base)
        reached = sized(prompt, shape, types) if shape is not None else True
        made = quiet(prompt, types)
        if not reached:
            notes.append(problem("shape_without_effect", workflow=name, found=_written(shape)))
        runs.append(Run(made, shape_of(made, types)))
    if missing := _missing(workflow, runs[0].prompt, types):
        return Prepared(problems=missing)
    for key, nodes in changed.items():
        if not any(node in run.prompt for run in runs for node in nodes):
            notes.append(problem("override_without_effect", workflow=name, found=shown(key)))
    return Prepared(tuple(runs), (), tuple(dict.fromkeys(notes)))


def override(
    prompt: Prompt, overrides: Mapping[str, Any], name: str
) -> tuple[dict[str, list[str]], tuple[Problem, ...]]:
    """Set inputs in place: `3.steps` of node 3, `KSampler.steps` of every node of that class.

    Returns the nodes that each override set, and what fits no node.
    """
    changed: dict[str, list[str]] = {}
    wrong: list[Problem] = []
    for key, value in overrides.items():
        for i, node in prompt.items():
            for where in (i, node["class_type"]):  # which may have dots in it, as inputs may
                what = key[len(where) + 1 :]
                if key.startswith(f"{where}.") and what in node["inputs"]:
                    node["inputs"][what] = value
                    changed.setdefault(key, []).append(i)
                    break
        if key not in changed:
            known = [
                f"{i}.{given}"
                for i, node in prompt.items()
                for given, v in node["inputs"].items()
                if linked(v) is None
            ]
            by_class = [
                f"{node['class_type']}.{given}" for node in prompt.values() for given in node["inputs"]
            ]
            some = ", ".join(map(shown, known[:20])) + (", …" if len(known) > 20 else "")
            hint = did_you_mean(
                key, [*known, *by_class], "Names are NODE.INPUT, as in the workflow's API format."
            )
            wrong.append(
                problem(
                    "override_unknown", found=key, workflow=name, expected=some or "none", suggestion=hint
                )
            )
    return changed, tuple(wrong)


def _written(shape: Shape | None) -> str:
    given = shape.model_dump(exclude_none=True) if shape is not None else {}
    return ", ".join(f"{key}: {value}" for key, value in given.items())


# -- nothing saved -------------------------------------------------------------------------------------


def quiet(prompt: Prompt, types: NodeTypes) -> Prompt:
    """A copy that saves and shows nothing, of the nodes that are left to run.

    Nodes that only save or show become sinks; who used the output of one gets its input of that type. Output
    nodes that do other work, such as samplers, stay, and their widgets for saving and previews are turned
    off.
    """
    changed = copy.deepcopy(prompt)
    specs = {name: types.node(node["class_type"]) for name, node in changed.items()}
    ends = {name: spec for name, spec in specs.items() if spec is not None and spec.output_node}
    used: dict[str, set[int]] = {}
    for node in changed.values():
        for key, source in links_of(node):
            used.setdefault(source, set()).add(node["inputs"][key][1])
    savers = {
        name: spec
        for name, spec in ends.items()
        if not _works(changed[name], spec)
        and all(_through(changed[name], spec, slot) for slot in used.get(name, ()))
    }
    for node in changed.values():
        for key, source in links_of(node):
            if source in savers:
                node["inputs"][key] = _before(changed, savers, node["inputs"][key])
    for name in savers:
        links = [value for value in changed[name]["inputs"].values() if linked(value) is not None][
            :SINK_INPUTS
        ]
        changed[name] = {"class_type": SINK, "inputs": {f"any{i}": link for i, link in enumerate(links)}}
    for name in ends.keys() - savers.keys():
        _silence(changed[name], ends[name])
    kept = reached_from(changed, [name for name in ends if changed[name]["inputs"]])
    return {name: node for name, node in changed.items() if name in kept}


def _works(node: Mapping[str, Any], spec: NodeSpec) -> bool:
    """Does this output node do more than save or show: has it outputs, and is it given more than results?"""
    kinds = {i.name: i.type for i in spec.inputs}
    taken = [kinds.get(key, "*").upper() for key, _ in links_of(node)]
    return bool(spec.outputs) and any(not RESULTS.intersection(kind.split(",")) for kind in taken)


def _through(saver: Mapping[str, Any], spec: NodeSpec, output: int) -> list[Any] | None:
    offered = spec.outputs[output] if output < len(spec.outputs) else ""
    fitting = (
        i for i in spec.inputs if offered and i.type not in ("COMBO", "STRING") and accepts(i.type, offered)
    )
    return next(
        (saver["inputs"][i.name] for i in fitting if linked(saver["inputs"].get(i.name)) is not None), None
    )


def _before(prompt: Prompt, savers: Mapping[str, NodeSpec], link: list[Any]) -> list[Any]:
    """What a saver was given, where its output is used; savers may follow each other."""
    for _ in range(len(prompt)):
        source = str(linked(link))
        through = _through(prompt[source], savers[source], link[1]) if source in savers else None
        if through is None:
            break
        link = through
    return link


def _silence(node: Mapping[str, Any], spec: NodeSpec) -> None:
    """Turn off the widgets by which an output node that works saves or shows, where their lists allow it."""
    for given in spec.inputs:
        value = node["inputs"].get(given.name)
        if linked(value) is not None:
            continue
        if given.type == "BOOLEAN" and given.name.lower().startswith("save"):
            node["inputs"][given.name] = False
        offers = {str(option).lower(): option for option in given.options or ()}
        if any(_SAVES.search(option) for option in offers) or "preview" in given.name.lower():
            silent = next((offers[word] for word in _QUIET if word in offers), None)
            if silent is not None:
                node["inputs"][given.name] = silent


# -- what stands in the way ----------------------------------------------------------------------------


def _missing(workflow: Workflow, prompt: Prompt, types: NodeTypes) -> tuple[Problem, ...]:
    """Why this prompt cannot be run: required inputs that lead to nothing, and outputs that are not there."""
    found: dict[Problem, None] = {}
    for name, inputs in workflow.lost.items():
        spec = types.node(workflow.prompt[name]["class_type"]) if name in prompt else None
        required = {i.name for i in spec.inputs if i.required} if spec is not None else set[str]()
        for key, wrong in inputs.items():
            cut = not key and name in workflow.live  # the node itself is left out
            if cut or key in required:
                found[wrong] = None
    if not prompt:
        found |= dict.fromkeys(workflow.problems) or {problem("workflow_without_output"): None}
    return tuple(found)


def partner_nodes(prompt: Prompt, types: NodeTypes) -> tuple[str, ...]:
    """The classes of nodes that run for a user who is logged in."""
    specs = (types.node(node["class_type"]) for node in prompt.values())
    return tuple(dict.fromkeys(spec.name for spec in specs if spec is not None and spec.api_node))


@dataclass(frozen=True)
class Upload:
    """An input that names a file which a user uploads."""

    node: str
    input: str
    kind: str
    """image, audio or video."""
    file: str


_UPLOADS: Mapping[str, str] = {
    "image_upload": "image",
    "animated_image_upload": "image",
    "audio_upload": "audio",
    "video_upload": "video",
}


def uploads(prompt: Prompt, types: NodeTypes) -> Sequence[Upload]:
    """Every uploaded file that the prompt reads."""
    found: list[Upload] = []
    for name, node in prompt.items():
        spec = types.node(node["class_type"]) if node["class_type"] != SINK else None
        for given in spec.inputs if spec is not None else ():
            kind = next((kind for flag, kind in _UPLOADS.items() if given.flag(flag)), None)
            value = node["inputs"].get(given.name)
            if kind is not None and isinstance(value, str):
                found.append(Upload(name, given.name, kind, value))
    return found
