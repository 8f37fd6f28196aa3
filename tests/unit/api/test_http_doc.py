"""docs/http.md is what tools/http_doc.py makes of docs/openapi.yaml, and that has every route."""

from __future__ import annotations

import yaml

from comfy_preload.api.queries import QUESTIONS
from comfy_preload.core.state.jobs import Command
from tools.http_doc import FILE, SOURCE, operations, text


def test_up_to_date() -> None:
    """If this fails, run `python tools/http_doc.py`."""
    assert text() == FILE.read_text(encoding="utf-8")


def test_operations() -> None:
    """The file has every question and every command, and nothing else."""
    written = {
        (method, path) for method, path, _ in operations(yaml.safe_load(SOURCE.read_text(encoding="utf-8")))
    }

    posts = {f"/preload/{command.value}" for command in Command} | {"/preload/entries"}
    assert {("GET", path) for path in QUESTIONS} | {("POST", path) for path in posts} == written
