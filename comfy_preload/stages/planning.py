"""Make a plan from settings: look up every loader in this ComfyUI, and read every workflow."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from comfy_preload.core.host import Host
from comfy_preload.core.log import log, log_each
from comfy_preload.core.planning.expansion import Expansion, Runs, expand
from comfy_preload.core.planning.plan import Plan, build
from comfy_preload.core.planning.rows import NotPreloaded
from comfy_preload.core.settings.validation import Settings


@dataclass(frozen=True)
class Planned:
    """The result of reading the settings file once."""

    settings: Settings
    plan: Plan
    runs: tuple[Runs, ...]
    """The warm-ups, and the workflows that cannot be read."""
    left: tuple[NotPreloaded, ...] = ()
    """Nodes of the workflows that read a model file and are not in the plan."""
    likeness: tuple[tuple[str, str], ...] = ()
    """Name of each workflow, and what its prompts are recognized by."""


def make_plan(settings: Settings, host: Host) -> Planned:
    """Make the plan. Call it on the prompt worker: it calls INPUT_TYPES() of other plugins' nodes."""
    names = [entry.name for entry in settings.entries]
    expansion = Expansion()
    if settings.workflows:
        folders = (settings.folder, host.user_folder())
        expansion = expand(settings.workflows, folders, host.node_types(), names)
    plan = build((*settings.entries, *expansion.entries), host)
    for left_out, same in plan.duplicates:
        if left_out in names:  # workflows often share models
            log.warning("%s is the same call as %s and is ignored", left_out, same)
    left = [
        f"{one.workflow}: node {one.node} ({one.loader}) is not preloaded: {one.problem.message}"
        for one in expansion.left
    ]
    log_each(logging.INFO, left, "more nodes: see not_preloaded in /preload")
    return Planned(settings, plan, expansion.runs, expansion.left, expansion.likeness)
