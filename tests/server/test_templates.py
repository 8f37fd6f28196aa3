"""ComfyUI's own workflow templates come to what ComfyUI's own editor makes of them.

What the editor makes of them was recorded in a browser (tools/template_truth.py); here a real ComfyUI's node
classes are asked, without a server. The templates are downloaded once.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support import templates
from tools.host import comfyui_path, comfyui_python

RECORDED = json.loads(templates.FACTS.read_text(encoding="utf-8"))
EXPECTED: dict[str, dict[str, Any]] = RECORDED["facts"]


@pytest.fixture(scope="module")
def found() -> dict[str, dict[str, Any]]:
    """What we make of each template."""
    host = comfyui_path()
    if templates.pinned(host) != RECORDED["templates"]:
        pytest.skip(
            f"recorded with ComfyUI {RECORDED['comfyui']}: this one has other templates and other node "
            "classes"
        )
    return templates.facts(host, comfyui_python(), templates.fetch(RECORDED["templates"]))


def test_recorded() -> None:
    """What was recorded is not nothing."""
    assert len(EXPECTED) > 180
    assert sum(len(facts["loaders"]) for facts in EXPECTED.values()) >= 300


@pytest.mark.parametrize("what", ["loaders", "prompt"])
def test_templates(found: dict[str, dict[str, Any]], what: str) -> None:
    """At least 99 of 100 templates have the same loader calls and the same prompt, to the last value."""
    differ = [name for name, facts in EXPECTED.items() if found.get(name, {}).get(what) != facts[what]]

    assert len(differ) <= len(EXPECTED) / 100, differ
