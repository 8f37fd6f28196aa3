"""checkov on what is applied: nothing is found that is not answered here.

checkov is not in requirements-dev.txt: it wants other versions of packages than ComfyUI. This runs where it
is installed beside (pipx install checkov).
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.deploy.manifests import RENDERED

ANSWERED = {
    "CKV_K8S_11": "no CPU limit: it would throttle a loader that no one else on the node hinders",
    "CKV_K8S_15": (
        "IfNotPresent: a digest or a version does not change, and a start must not wait for a registry"
    ),
    "CKV_K8S_25": (
        "CHOWN and FOWNER for the container that prepares the node cache's folder, and nothing else"
    ),
    "CKV_K8S_28": "as CKV_K8S_25",
    "CKV_K8S_37": "as CKV_K8S_25",
    "CKV_K8S_6": "that container is root: only root may give a hostPath to another user",
    "CKV_K8S_23": "as CKV_K8S_6",
    "CKV_K8S_40": "UID 1000 and the like are those of the images; podSecurityContext takes another",
    "CKV_K8S_43": "image.digest takes a digest; a chart cannot know that of an image that you build",
    "CKV_K8S_8": "pods that listen to nothing: the node cache, jobs",
    "CKV_K8S_9": "as CKV_K8S_8",
    "CKV2_K8S_6": "pods that listen to nothing need no NetworkPolicy",
    "CKV_K8S_21": "the namespace is the release's",
}


@pytest.mark.parametrize(
    "way", ["chart, fleet", "chart, pools", "chart, exposed", "overlay plain", "overlay keda"]
)
def test_checkov(way: str, tmp_path: Path) -> None:
    """Every finding has its reason above."""
    program = shutil.which("checkov")
    if not program:
        pytest.skip("checkov is not installed (pipx install checkov)")
    file = tmp_path / "objects.yaml"
    file.write_text(yaml.safe_dump_all(RENDERED[way]()), encoding="utf-8")
    words = [
        "--file",
        str(file),
        "--framework",
        "kubernetes",
        "--output",
        "json",
        "--quiet",
        "--skip-download",
    ]
    ran = subprocess.run([program, *words], capture_output=True, text=True, check=False, timeout=300)
    found = json.loads(ran.stdout)
    failed = {one["check_id"]: one["resource"] for one in found["results"]["failed_checks"]}

    assert found["summary"]["passed"] > 80
    assert {} == {check: where for check, where in failed.items() if check not in ANSWERED}
