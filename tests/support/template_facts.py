r"""Convert workflows with real node classes: run by a ComfyUI's Python, in its folder.

    python template_facts.py <plugin root> <templates folder, or file with prompts> \
        <answer file> <base directory>

Nothing of ComfyUI runs but its imports: no server, no custom node, no model.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import json
import sys
from pathlib import Path
from typing import Any

Prompt = dict[str, dict[str, Any]]


def reduced(prompt: Prompt, known: Any) -> Prompt:
    """Remove what ComfyUI ignores: titles, inputs that the class does not declare, and unknown classes."""
    specs = {name: known.node(node.get("class_type") or "") for name, node in prompt.items()}
    made: Prompt = {}
    for name, node in prompt.items():
        if specs[name] is None:
            continue
        declared = {i.name for i in specs[name].inputs}
        inputs = {}
        for key, value in node["inputs"].items():
            linked = isinstance(value, list)
            if specs.get(value[0]) if linked else key.partition(".")[0] in declared:
                inputs[key] = value
        made[name] = {"class_type": node["class_type"], "inputs": inputs}
    return made


def facts_of(prompt: Prompt, known: Any, is_loader: Any) -> dict[str, Any]:
    prompt = reduced(prompt, known)
    loaders = {
        n: [node["class_type"], node["inputs"]]
        for n, node in prompt.items()
        if is_loader(known.node(node["class_type"]))
    }
    text = json.dumps(_numbers(prompt), sort_keys=True)
    return {
        "nodes": len(prompt),
        "prompt": hashlib.sha256(text.encode()).hexdigest()[:16],
        "loaders": loaders,
    }


def _numbers(value: Any) -> Any:
    """Treat 1.0 and 1 as one number, as a browser does."""
    if isinstance(value, dict):
        return {k: _numbers(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_numbers(v) for v in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def main(root: str, source: Path, answer: Path, base: str) -> None:
    sys.argv = ["main.py", "--cpu", "--base-directory", base]
    sys.path[0] = str(Path.cwd())  # not this script's folder, which has another comfy.py
    importlib.import_module("comfy.options").enable_args_parsing()
    nodes = importlib.import_module("nodes")
    asyncio.run(nodes.init_extra_nodes(init_custom_nodes=False, init_api_nodes=True))

    sys.path.append(root)  # last: our `nodes` must not hide ComfyUI's
    known = importlib.import_module("comfy_preload.host.node_types").ComfyNodeTypes()
    is_loader = importlib.import_module("comfy_preload.core.workflow.loaders").is_loader
    parse = importlib.import_module("comfy_preload.core.workflow.reader").parse

    if source.is_dir():
        files = {path.stem: path.read_bytes() for path in sorted(source.glob("*.json"))}
        workflows = {name: text for name, text in files.items() if b'"nodes"' in text}
        prompts = {name: parse(text, known).prompt for name, text in workflows.items()}
    else:
        prompts = json.loads(source.read_text(encoding="utf-8"))
    found = {name: facts_of(prompt, known, is_loader) for name, prompt in prompts.items()}
    answer.write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4])
