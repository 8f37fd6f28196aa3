"""Whatever is wrong with an entry is found before anything is loaded, and reported with a hint."""

from __future__ import annotations

import pytest

from tests.support.catalogue import FOLDERS, Catalogue, call, planned


@pytest.mark.parametrize(
    ("text", "code", "message", "hint"),
    [
        pytest.param(
            "loader: UNETLoder",
            "loader_unknown",
            "'UNETLoder' is not among the 11",
            "Did you mean 'UNETLoader'?",
            id="typo",
        ),
        pytest.param(
            "loader: Zz",
            "loader_unknown",
            "'Zz' is not among the 11 node classes",
            "pack that brings it",
            id="unknown",
        ),
        pytest.param(
            "{loader: LoraLoaderModelOnly, inputs: {lora_name: style.safetensors}}",
            "loader_takes_model",
            "needs a MODEL from another node for its input 'model'",
            "Preload the node that provides the MODEL",
            id="takes-model",
        ),
        pytest.param(
            "{unet: flux1-dev.safetensors, weight_dtyp: default}",
            "input_unknown",
            "UNETLoader has no input 'weight_dtyp'; expected one of: unet_name, weight_dtype",
            "Did you mean 'weight_dtype'?",
            id="input-typo",
        ),
        pytest.param(
            "{vae: ae.safetensors, requird: false}",
            "input_unknown",
            "VAELoader has no input 'requird'",
            "Did you mean 'required'?",
            id="key-typo",
        ),
        pytest.param(
            "{vae: ae.safetensors, zzz: 1}",
            "input_unknown",
            "no input 'zzz'; expected one of: vae_name",
            "Remove it.",
            id="input",
        ),
        pytest.param(
            "loader: VAELoader",
            "input_missing",
            "VAELoader needs the input 'vae_name'",
            "Add 'vae_name:'",
            id="missing",
        ),
        pytest.param(
            "{unet: flux1-dev.safetensors, weight_dtype: fp8_e4m3}",
            "value_not_allowed",
            "weight_dtype of UNETLoader is 'fp8_e4m3'; expected one of: default, fp8_e4m3fn,",
            "Did you mean 'fp8_e4m3fn'?",
            id="value-typo",
        ),
        pytest.param(
            "{unet: flux1-dev.safetensors, weight_dtype: 8}",
            "value_not_allowed",
            "is 8; expected",
            "Choose one",
            id="value-number",
        ),
        pytest.param(
            "{clip: clip_l.safetensors, device: ram, type: zz}",
            "value_not_allowed",
            "is 'zz'",
            "Choose one",
            id="value",
        ),
        pytest.param(
            "unet: flux1-dv.safetensors",
            "file_missing",
            "flux1-dv.safetensors is in none of the 2 folders searched for diffusion_models",
            "Nearest: flux1-dev.safetensors",
            id="file-typo",
        ),
        pytest.param(
            "checkpoint: other/sd15.safetensors",
            "file_missing",
            "other/sd15.safetensors is not in the folder",
            "Nearest: sd15",
            id="other-folder",
        ),
        pytest.param(
            "vae: zzz",
            "file_missing",
            "zzz is not in the folder searched for vae",
            "Put it into models/vae.",
            id="file",
        ),
        pytest.param(
            "vae: ../vae/ae.safetensors",
            "file_missing",
            "ae.safetensors is not in the folder",
            "Nearest: ae",
            id="dot-dot",
        ),
        pytest.param(
            "vae: /etc/secret/passwd",
            "file_missing",
            "passwd is not in the folder",
            "Put it into models/vae.",
            id="absolute",
        ),
        pytest.param(
            "loader: BrokenLoader",
            "load_failed",
            "BrokenLoader raised FileNotFoundError: [Errno 2] No such file or directory: 'list.json'",
            "",
            id="class-raises",
        ),
    ],
)
def test_problem(text: str, code: str, message: str, hint: str) -> None:
    """What this ComfyUI lacks or refuses is a problem with what was found, what was expected, and a hint."""
    found = call(text)
    [problem] = found.problems

    assert (code, 2) == (problem.code, problem.line)
    assert () == planned(f"  - {text}").runnable()
    assert message in problem.message
    assert hint in problem.hint
    assert not any(path in str(problem) for path in ("/etc", "/mnt"))


def test_all_at_once() -> None:
    """One entry reports all that is wrong with it, and costs no other entry."""
    plan = planned(
        "  - {unet: a, weight_dtype: b, c: 1}\n  - vae: ae.safetensors\n  - loader: BrokenLoader\n  - vae: "
        "taesd\n"
    )

    assert ["input_unknown", "file_missing", "value_not_allowed"] == [p.code for p in plan.calls[0].problems]
    assert ["ae", "taesd"] == [c.name for c in plan.runnable()]


def test_problems_of_the_settings_stay() -> None:
    """An entry that was wrong in itself is planned as it is, and nothing is looked up for it."""
    found = call("{vae: ae.safetensors, device: tpu}")

    assert (["wrong_value"], "") == ([p.code for p in found.problems], found.entry.loader)


def test_empty_folder() -> None:
    """A folder without any file is searched all the same, and said to be."""
    [problem] = call("checkpoint: sd15.safetensors", Catalogue({**FOLDERS, "checkpoints": ("x",)})).problems

    assert "sd15.safetensors is not in the folder searched for checkpoints" == problem.message
    assert "Put it into models/checkpoints." == problem.hint


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("{unet: flux1-dev.safetensors, weight_dtype: '${SECRET}'}", id="value"),
        pytest.param("{vae: '${SECRET}'}", id="file"),
        pytest.param("{loader: VAELoader, inputs: {vae_name: 'x-${SECRET}'}}", id="input"),
    ],
)
def test_secret(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a variable holds is in no problem; the text in the file is."""
    monkeypatch.setenv("SECRET", "hunter2")
    [problem] = call(text).problems

    assert "hunter2" not in str(problem)
    assert "${SECRET}" in problem.message


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        pytest.param("UNETLoaderMultiGPU", "Is the pack", id="multigpu"),
        pytest.param("CLIPLoaderGGUF", "Is the pack", id="gguf"),
        pytest.param("CheckpointLoaderSimpleDisTorch2MultiGPU", "Is the pack", id="distorch"),
        pytest.param("VAELoaders", "mean 'VAELoader'", id="plural"),
        pytest.param("CheckpointLoader", "mean 'CheckpointLoaderSimple'", id="shorter"),
    ],
)
def test_node_of_a_pack_is_not_a_typo(name: str, hint: str) -> None:
    """A class that a pack makes from one of ComfyUI's is not taken for a misspelling of that."""
    [problem] = call(f"loader: {name}").problems

    assert hint in problem.hint


@pytest.mark.parametrize("value", [r'"SDXL\new.safetensors"', r'"a\boo.safetensors"', r'"\turbo.sft"'])
def test_backslash_that_yaml_took_for_an_escape(value: str) -> None:
    """A name from Windows in double quotes may be valid YAML, and then holds a line break.

    The hint says why.
    """
    [problem] = call(f"checkpoint: {value}").problems

    assert "file_missing" == problem.code
    assert "backslash in double quotes" in problem.hint


def test_packs_that_could_not_be_imported() -> None:
    """They are named where a class is missing, since it may be one of theirs."""
    catalogue = Catalogue()
    catalogue.failed = ("ComfyUI-MultiGPU", "other_pack")

    [missing] = call("loader: UNETLoaderMultiGPU", catalogue).problems
    [typo] = call("loader: UNETLoder", catalogue).problems

    assert "IMPORT FAILED in its log: ComfyUI-MultiGPU, other_pack." in missing.hint
    assert "Did you mean 'UNETLoader'?" == typo.hint
