"""Every pod that we ship: locked down, without a GPU that it has not asked for, and with room on the disk."""

from __future__ import annotations

from typing import Any

from tests.deploy.manifests import (
    ALL_ON,
    Manifest,
    chart,
    containers,
    deployments,
    templates,
)

LOCKED: dict[str, Any] = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


def test_locked_down(rendered: list[Manifest]) -> None:
    """Pod Security level `restricted`, but for the node cache; and a root file system that is read only."""
    for owner, template in templates(rendered):
        spec = template["spec"]
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False
        assert "RuntimeDefault" == spec["securityContext"]["seccompProfile"]["type"]
        for name, one in containers(spec).items():
            if "busybox" in one["image"]:  # the user's own, of ALL_ON
                continue
            context = one["securityContext"]
            assert "memory" in one["resources"]["limits"]
            if name == "folder":
                assert {"drop": ["ALL"], "add": ["CHOWN", "FOWNER"]} == context["capabilities"]
                continue
            assert LOCKED.items() <= context.items()
            assert context.get("runAsNonRoot", spec["securityContext"].get("runAsNonRoot")) is True, owner[
                "metadata"
            ]["name"]
        kinds = {key for v in spec.get("volumes", ()) for key in v} - {"name"}
        assert {
            "persistentVolumeClaim",
            "emptyDir",
            "configMap",
            "hostPath",
            "secret",
            "projected",
            "image",
        } >= kinds
    for one in deployments(rendered):
        models = [
            m
            for m in containers(one["spec"]["template"]["spec"])["comfyui"]["volumeMounts"]
            if m["name"] == "models"
        ]
        assert all(m["readOnly"] is True for m in models)


def test_no_gpu_for_helpers(rendered: list[Manifest]) -> None:
    """Where nvidia is the default runtime, a container of ours that asks for no GPU sees none."""
    for one in deployments(rendered):
        for name, helper in containers(one["spec"]["template"]["spec"]).items():
            if name != "comfyui" and "busybox" not in helper["image"]:
                assert {"name": "NVIDIA_VISIBLE_DEVICES", "value": "void"} in helper["env"], name


def test_disk(rendered: list[Manifest]) -> None:
    """Every emptyDir has a size, the pod asks for it, and pictures are pruned before theirs is full."""
    for one in deployments(rendered):
        spec = one["spec"]["template"]["spec"]
        assert all("sizeLimit" in v["emptyDir"] for v in spec["volumes"] if "emptyDir" in v)
        assert "ephemeral-storage" in containers(spec)["comfyui"]["resources"]["requests"]
        prune = containers(spec)["prune"]
        assert "Always" == prune["restartPolicy"]
        sizes = {v["name"]: v["emptyDir"]["sizeLimit"] for v in spec["volumes"] if "emptyDir" in v}
        for name in sizes.keys() - {"shm"}:
            assert {"name": name, "mountPath": f"/volumes/{name}"} in prune["volumeMounts"]
            assert f"/volumes/{name}={sizes[name]}" in prune["command"], "and it knows the size"


def test_every_image_of_a_pool_is_the_same(rendered: list[Manifest]) -> None:
    """Init containers and sidecars of ours need no image of their own."""
    for one in deployments(rendered):
        images = [
            c["image"]
            for c in containers(one["spec"]["template"]["spec"]).values()
            if "busybox" not in c["image"]
        ]
        assert 1 == len(set(images))


def test_nodes_can_be_scaled_down(rendered: list[Manifest]) -> None:
    """The emptyDirs of a pod do not keep its node alive, unless podAnnotations say so."""
    for one in deployments(rendered):
        annotations = one["spec"]["template"]["metadata"]["annotations"]
        assert "true" == annotations["cluster-autoscaler.kubernetes.io/safe-to-evict"]


def test_labels() -> None:
    """The recommended labels, on every object of the chart and on every pod."""
    rendered = chart(ALL_ON)
    owned = [m for m in rendered if m["metadata"]["name"] not in ("demo-extra", "more")]
    for one in [*owned, *(template for _, template in templates(rendered))]:
        found = one["metadata"]["labels"]
        names = ("name", "instance", "component", "part-of", "version", "managed-by")
        assert {f"app.kubernetes.io/{name}" for name in names} <= found.keys(), one["metadata"].get("name")
