"""What would make the preload smaller or faster, judged by the headers of the files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from comfy_preload.cli.loaders import TINY_VAES, CoreLoaders
from comfy_preload.core.errors import PreloadError
from comfy_preload.core.host import ModelFile
from comfy_preload.core.planning.call import LoaderCall
from comfy_preload.core.planning.safetensors import SAFETENSORS, Header, read_header
from comfy_preload.core.text import gigabytes

_WIDE = {"F32": 2, "F64": 4}
"""How many times smaller fp16 is."""
WORTHWHILE = 0.1
"""A share of the file that must be saved for a conversion to be advised."""


@dataclass(frozen=True)
class Advice:
    kind: str
    """fp32 or tiny_vae."""
    model: str
    file: str
    saves: int
    """Bytes that need not be read."""
    text: str


def headers(calls: tuple[LoaderCall, ...]) -> dict[Path, Header]:
    """Of every safetensors file that has a valid one."""
    found: dict[Path, Header] = {}
    for file in (f for call in calls for f in call.files):
        if file.path not in found and file.name.lower().endswith(SAFETENSORS):
            try:
                found[file.path] = read_header(file.path, file.name)
            except PreloadError:
                continue  # the preflight has said it
    return found


def advise(
    calls: tuple[LoaderCall, ...], known: dict[Path, Header], loaders: CoreLoaders
) -> Iterator[Advice]:
    """In the order of the plan."""
    seen: set[Path] = set()
    for call in calls:
        for file in call.files:
            header = known.get(file.path)
            if header is None or file.path in seen:
                continue
            seen.add(file.path)
            yield from _fp32(call, file, header)
            yield from _tiny_vae(call, file, header, loaders)


def _fp32(call: LoaderCall, file: ModelFile, header: Header) -> Iterator[Advice]:
    dtypes = header.dtypes()
    saves = sum(count - count // _WIDE[kind] for kind, count in dtypes.items() if kind in _WIDE)
    total = sum(dtypes.values())
    if saves > WORTHWHILE * total:
        text = (
            f"fp32: 'convert --dtype fp16' makes it {gigabytes(total - saves)} instead of {gigabytes(total)}"
        )
        yield Advice("fp32", call.name, file.name, saves, text)


def _tiny_vae(call: LoaderCall, file: ModelFile, header: Header, loaders: CoreLoaders) -> Iterator[Advice]:
    names = tiny_vaes(file.name, header)
    if not names or file.folder == "vae_approx":
        return
    size = (
        sum(t.bytes for t in header.tensors) if file.folder == "vae" else 0
    )  # a checkpoint is read as a whole
    there = [name for name in names if loaders.has_tiny_vae(name)]
    where = f"{' and '.join(there)} is in vae_approx" if there else "its two files go into vae_approx"
    text = (
        f"a tiny VAE exists, {' or '.join(names)}: decodes faster with less memory, and less detail; {where}"
    )
    yield Advice("tiny_vae", call.name, file.name, size, text)


def tiny_vaes(file: str, header: Header) -> tuple[str, ...]:
    """Which ones decode the same latents.

    Recognized by their channels, and where two have the same number, by other keys or the name.
    """
    shape = header.shape("decoder.conv_in.weight")
    if shape is None or len(shape) != 4 or any(t.name.startswith("taesd_") for t in header.tensors):
        return ()
    word = file.lower()
    keys = {t.name.split(".", 1)[0] for t in header.tensors}
    if shape[1] == 4:
        if "conditioner" in keys or "xl" in word:
            return ("taesdxl",)
        return ("taesd",) if "cond_stage_model" in keys else TINY_VAES[:2]
    if shape[1] == 16:
        flux = (
            header.shape("double_blocks.0.img_attn.qkv.weight") is not None
            or "flux" in word
            or word in ("ae.safetensors", "ae.sft")
        )
        sd3 = header.shape("joint_blocks.0.x_block.attn.qkv.weight") is not None or "sd3" in word
        return ("taef1",) if flux else ("taesd3",) if sd3 else TINY_VAES[2:]
    return ()
