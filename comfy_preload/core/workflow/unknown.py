"""Nodes of classes that this ComfyUI does not have: passed through, dropped, or named as what others hang on.

A file holds many that exist in the editor only: labels, switches, reroutes of plugins. The editor does not
send them, so the prompt is right without them. Which is which no file says; it follows from what a node is
linked to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from comfy_preload.core.errors import Problem, problem
from comfy_preload.core.workflow.graph import identifier, shown

Prompt = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Foreign:
    """A node whose class is unknown."""

    type: str
    plugin: str = ""
    hands_on: bool = False
    """One input and one output of the same type and no value of its own.

    What is linked to it passes through.
    """
    may_end: bool = False
    """It takes data of a certain type. So it may be a node that saves or shows what others make."""
    files: tuple[str, ...] = ()
    """Model files among its values."""


@dataclass(frozen=True)
class Settled:
    """A prompt of known nodes only."""

    prompt: Prompt
    problems: dict[str, Problem] = field(default_factory=dict[str, Problem])
    """By unknown node.

    Those that may be part of the prompt, as others hang on them or they save what others make.
    """
    lost: dict[str, dict[str, Problem]] = field(default_factory=dict[str, dict[str, Problem]])
    """By known node and input: what is not there to be linked to."""
    live: frozenset[str] = frozenset()
    """Nodes from which an output node is reached: those that ComfyUI runs."""


def settle(prompt: Prompt, foreign: Mapping[str, Foreign], is_output: Callable[[str], bool]) -> Settled:
    """Take the unknown nodes out of a prompt.

    `is_output`: does a node of that class save or show something?
    """
    _pass_through(prompt, foreign)
    users = users_of(prompt)
    ends = [
        name
        for name, node in prompt.items()
        if (
            foreign[name].may_end and not users.get(name)
            if name in foreign
            else is_output(node["class_type"])
        )
    ]
    live = reached_from(prompt, ends) if ends else frozenset(prompt)
    takers = [n for n in prompt if n not in foreign or (foreign[n].may_end and not users.get(n))]
    part = reached_from(prompt, takers)
    problems = {name: unknown(name, foreign[name]) for name in prompt if name in foreign and name in part}
    lost: dict[str, dict[str, Problem]] = {}
    for name, node in prompt.items():
        for key, source in list(links_of(node)):
            if source not in foreign:
                continue
            del node["inputs"][key]
            if name not in foreign:
                lost.setdefault(name, {})[key] = problems[source]
    return Settled(
        {name: node for name, node in prompt.items() if name not in foreign},
        problems,
        lost,
        live,
    )


def _pass_through(prompt: Prompt, foreign: Mapping[str, Foreign]) -> None:
    """Give those who use a node that only hands on what that node is given."""
    for node in prompt.values():
        for key, given in list(node["inputs"].items()):
            value, hops = given, 0
            while (source := linked(value)) in prompt and source in foreign and foreign[source].hands_on:
                hops += 1
                value = next(iter(prompt[source]["inputs"].values()), None) if hops <= len(prompt) else None
            if value is None and hops:
                del node["inputs"][key]
            else:
                node["inputs"][key] = value
    for name, one in foreign.items():
        if one.hands_on:
            prompt.pop(name, None)


def unknown(name: str, node: Foreign) -> Problem:
    brings = (
        f"Install the plugin that brings it: {node.plugin}."
        if node.plugin
        else "Is the plugin that brings it installed?"
    )
    suggestion = f"{brings} If it is, look for IMPORT FAILED in ComfyUI's log."
    return problem("workflow_node_unknown", node=shown(name), type=shown(node.type), suggestion=suggestion)


def linked(value: Any) -> str | None:
    """The node that an input of a prompt is linked to, or None for a plain value."""
    is_link = (
        isinstance(value, list)
        and len(value) == 2
        and isinstance(value[0], str | int)
        and isinstance(value[1], int)
    )
    return identifier(value[0]) if is_link else None


def links_of(node: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(input, the node it is linked to) of each linked input."""
    found = ((key, linked(value)) for key, value in node["inputs"].items())
    return [(key, source) for key, source in found if source is not None]


def users_of(prompt: Mapping[str, Mapping[str, Any]]) -> dict[str, list[str]]:
    """By node: those that are linked to one of its outputs."""
    users: dict[str, list[str]] = {}
    for name, node in prompt.items():
        for source in {source for _, source in links_of(node)}:
            users.setdefault(source, []).append(name)
    return users


def reached_from(prompt: Mapping[str, Mapping[str, Any]], ends: list[str]) -> frozenset[str]:
    """These nodes and all that they need."""
    found: set[str] = set()
    todo = list(ends)
    while todo:
        name = todo.pop()
        if name in prompt and name not in found:
            found.add(name)
            todo += [source for _, source in links_of(prompt[name])]
    return frozenset(found)
