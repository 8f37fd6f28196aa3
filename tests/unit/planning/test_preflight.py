"""Every file is looked into before anything is loaded, and all findings come at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from comfy_preload.core.planning.plan import Plan, build
from comfy_preload.core.planning.preflight import Checked, check
from comfy_preload.core.planning.safetensors import inspect
from comfy_preload.core.settings.document import parse
from comfy_preload.core.settings.validation import validate
from comfy_preload.core.text import gigabytes
from tests.support import safetensors_file
from tests.support.catalogue import Catalogue

KILOBYTE = {"w": (500,)}
PLENTY = 1 << 40


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three good VAEs and three good text encoders of a kilobyte each."""
    for name in "abc":
        safetensors_file.write(tmp_path / "vae" / f"{name}.safetensors", KILOBYTE)
        safetensors_file.write(tmp_path / "text_encoders" / f"{name}.safetensors", KILOBYTE)
    return tmp_path


def plan(root: Path, *entries: str) -> Plan:
    folders = dict.fromkeys(("checkpoints", "diffusion_models", "loras"), ())
    names = tuple(sorted(p.name for p in (root / "vae").iterdir()))
    catalogue = Catalogue({**dict.fromkeys(folders, ("-",)), "vae": names, "text_encoders": names}, root)
    return build(validate(parse("models:\n" + "".join(f"  - {e}\n" for e in entries))).entries, catalogue)


def codes(checked: Checked) -> list[list[str]]:
    return [[p.code for p in call.problems] for call in checked.plan.calls]


def test_good(folder: Path) -> None:
    """Good files are counted at their size on disk."""
    checked = check(plan(folder, "vae: a.safetensors", "vae: b.safetensors"), inspect, PLENTY)

    size = safetensors_file.size(KILOBYTE)
    assert ([[], []], {"a": size, "b": size}) == (codes(checked), checked.bytes)


def test_bad_files(folder: Path) -> None:
    """Each bad file is reported with the line of its entry, and costs no other."""
    (folder / "vae" / "b.safetensors").write_bytes(b"")
    (folder / "vae" / "c.safetensors").write_bytes(b"<html>, not a model")
    checked = check(plan(folder, *(f"vae: {n}.safetensors" for n in "abc")), inspect, PLENTY)

    assert [[], ["file_empty"], ["file_not_safetensors"]] == codes(checked)
    assert [3, 4] == [p.line for call in checked.plan.calls for p in call.problems]
    assert ["a"] == [call.name for call in checked.plan.runnable()]


def test_two_bad_files_of_one_call(folder: Path) -> None:
    """A call with two files reports both."""
    for name in "ab":
        (folder / "text_encoders" / f"{name}.safetensors").write_bytes(b"")
    checked = check(plan(folder, "{clip: [a.safetensors, b.safetensors], type: flux}"), inspect, PLENTY)

    assert [["file_empty", "file_empty"]] == codes(checked)


def test_plan_problems_stay(folder: Path) -> None:
    """What the plan found is kept, and such an entry reads no bytes."""
    checked = check(plan(folder, "vae: zzz"), inspect, PLENTY)

    assert ([["file_missing"]], {"zzz": 0}) == (codes(checked), checked.bytes)


def test_too_big(folder: Path) -> None:
    """What no longer fits is refused, in the plan's order; what comes after it and fits is loaded."""
    safetensors_file.write(folder / "vae" / "b.safetensors", {"w": (500_000,)})
    checked = check(plan(folder, *(f"vae: {n}.safetensors" for n in "abc")), inspect, 10_000)

    assert [[], ["too_big"], []] == codes(checked)
    [problem] = checked.plan.calls[1].problems
    assert "models up to b.safetensors need 1.0 MB, but only 0.0 MB is available" == problem.message
    assert 3 == problem.line


def test_together_too_big(folder: Path) -> None:
    """Files that fit one by one may not fit together."""
    room = 2 * safetensors_file.size(KILOBYTE)
    checked = check(plan(folder, *(f"vae: {n}.safetensors" for n in "abc")), inspect, room)

    assert [[], [], ["too_big"]] == codes(checked)


def test_same_file_twice(folder: Path) -> None:
    """A file that two calls use is counted once, and looked into once."""
    looked: list[str] = []

    def inspect_and_note(path: Path, name: str) -> tuple[int, None]:
        looked.append(name)
        return path.stat().st_size, None

    both = plan(
        folder,
        "{clip: [a.safetensors, b.safetensors], type: flux}",
        "{clip: [a.safetensors, b.safetensors], type: sd3}",
    )
    checked = check(both, inspect_and_note, 2 * safetensors_file.size(KILOBYTE))

    assert [[], []] == codes(checked)
    assert ["a.safetensors", "b.safetensors"] == looked


def test_sparse_file_that_fits_nowhere(folder: Path) -> None:
    """A terabyte with a good header is too big for this machine, and is reported so without being read."""
    safetensors_file.write(folder / "vae" / "a.safetensors", {"w": (1 << 39,)}, zeros={"w"})
    checked = check(plan(folder, "vae: a.safetensors"), inspect, 64 << 30)

    [problem] = checked.plan.calls[0].problems
    assert "models up to a.safetensors need 1,099.51 GB, but only 68.72 GB is available" == problem.message


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0.0 MB"),
        (99_940_000, "99.9 MB"),
        (123_456_789, "0.12 GB"),
        (1_234_567_890, "1.23 GB"),
        (2_000_000_000_000, "2,000.00 GB"),
    ],
    ids=["zero", "megabytes", "tenth", "gigabytes", "terabytes"],
)
def test_gigabytes(count: int, text: str) -> None:
    """Sizes are reported as they are printed on disks: 1 GB is 10**9 bytes."""
    assert text == gigabytes(count)


def test_pickles(folder: Path) -> None:
    """Where ComfyUI would run the code in a pickle, none is loaded; where it would not, they are."""
    for name in ("a.ckpt", "b.PT", "c.bin"):
        (folder / "vae" / name).write_bytes(b"\x80\x02.")
    of_pickles = plan(folder, "vae: a.safetensors", *(f"vae: {n}" for n in ("a.ckpt", "b.PT", "c.bin")))

    assert [[], ["pickle_refused"], ["pickle_refused"], ["pickle_refused"]] == codes(
        check(of_pickles, inspect, PLENTY, pickles=False)
    )
    assert [[], [], [], []] == codes(check(of_pickles, inspect, PLENTY))


def test_too_big_is_no_failure_where_files_are_mapped(folder: Path) -> None:
    """With dynamic VRAM weights stay in their files.

    What does not fit is slow, so it is a warning and nothing more.
    """
    checked = check(plan(folder, *(f"vae: {n}.safetensors" for n in "abc")), inspect, 1500, mapped=True)

    assert [[], [], []] == codes(checked)
    assert ["too_big", "too_big"] == [warning.code for warning in checked.warnings]
