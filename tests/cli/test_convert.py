"""`convert` rounds as torch does, and keeps everything else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import load_file

from comfy_preload.core.planning.safetensors import read_header
from tests.cli.command import run
from tests.cli.weights import converted, raw, row, wide


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
@pytest.mark.parametrize("wider", [np.float32, np.float64])
def test_as_torch(tmp_path: Path, dtype: str, wider: type[np.floating[Any]]) -> None:
    """Bit for bit what torch's own conversion gives, over several blocks, NaN and infinities included."""
    torch = pytest.importorskip("torch")
    numbers = wide().astype(wider)
    done, target = converted(tmp_path, {"w": numbers}, dtype=dtype)
    assert 0 == done.code, done.err
    kind = torch.float16 if dtype == "fp16" else torch.bfloat16
    expected = torch.from_numpy(numbers).to(kind)
    with safe_open(target, framework="pt") as file:
        found = file.get_tensor("w")

    assert expected.dtype == found.dtype
    number = ~torch.isnan(expected)
    assert torch.equal(number, ~torch.isnan(found))
    assert torch.equal(expected.view(torch.int16)[number], found.view(torch.int16)[number])


def test_every_fp16(tmp_path: Path) -> None:
    """Every number that fp16 has, the middle to the next one, and what lies just beside the middle."""
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)
    halves = np.sort(halves[np.isfinite(halves)])
    middles = (halves[:-1] + halves[1:]) / 2
    numbers = np.concatenate(
        [halves, middles, np.nextafter(middles, np.float32(9)), np.nextafter(middles, np.float32(-9))]
    )
    _, target = converted(tmp_path, {"w": numbers})

    assert np.array_equal(numbers.astype(np.float16).view(np.uint16), load_file(target)["w"].view(np.uint16))


def test_the_rest_is_kept(tmp_path: Path) -> None:
    """Integers, booleans, small types, single numbers, empty tensors, shapes, metadata, order of keys."""
    tensors: dict[str, NDArray[Any]] = {
        "z.weight": np.arange(15, dtype=np.float32).reshape(3, 5),
        "ids": np.arange(7, dtype=np.int64),
        "a.half": np.arange(3, dtype=np.float16),
        "mask": np.array([True, False, True]),
        "bytes": np.arange(5, dtype=np.int16),
        "scalar": np.array([1 / 3], np.float32).reshape(()),
        "one": np.array([[1 / 3]], np.float32),
        "none": np.zeros((0, 4), np.float32),
    }
    metadata = {"format": "pt", "modelspec.title": "Müßig 模型", "note": '"quoted"'}
    done, target = converted(tmp_path, tensors, metadata=metadata)
    found = load_file(target)

    assert 0 == done.code, done.err
    assert {**tensors, "z.weight": 0, "none": 0}.keys() == found.keys()
    for name, before in tensors.items():
        changed = name in ("z.weight", "none")
        assert (np.float16 if changed else before.dtype) == found[name].dtype
        assert before.shape == found[name].shape
        assert np.array_equal(before, found[name])
    with safe_open(target, framework="np") as file:
        assert metadata == file.metadata()
    assert [t.name for t in read_header(tmp_path / "in.safetensors", "in.safetensors").tensors] == [
        t.name for t in read_header(target, "out.safetensors").tensors
    ]


def test_aligned(tmp_path: Path) -> None:
    """Every tensor starts at a multiple of the size of its numbers, as the format's own writer has it."""
    tensors = {
        "a": np.zeros(3, np.float32),
        "b": np.zeros(3, np.int64),
        "c": np.zeros(3, np.int8),
        "d": np.zeros(5, np.float32),
    }
    _, target = converted(tmp_path, tensors)
    header = read_header(target, "out.safetensors")

    assert 0 == header.start % 8
    assert {"a": 2, "b": 8, "c": 1, "d": 2} == {t.name: t.bytes // t.numbers for t in header.tensors}
    assert [0] * 4 == [t.begin % (t.bytes // t.numbers) for t in header.tensors]


def test_fp8_with_scales(tmp_path: Path) -> None:
    """fp8 weights stay, and so do their fp32 scales, and types that nobody has heard of yet."""
    header = {
        "w": row("F8_E4M3", [4], 0, 4),
        "w.scale_weight": row("F32", [2], 4, 12),
        "bias": row("F32", [2], 12, 20),
        "new": row("F3_X", [8], 20, 23),
    }
    data = bytes(range(4)) + np.array([0.1, 0.2, 1.0, 2.0], np.float32).tobytes() + b"abc"
    source, target = raw(tmp_path / "in.safetensors", header, data), tmp_path / "out.safetensors"
    done = run("convert", source, target, "--dtype", "fp16")
    found = {t.name: t for t in read_header(target, "x.safetensors").tensors}
    content = target.read_bytes()[read_header(target, "x.safetensors").start :]

    assert 0 == done.code, done.err
    assert {"w": "F8_E4M3", "w.scale_weight": "F32", "bias": "F16", "new": "F3_X"} == {
        n: t.dtype for n, t in found.items()
    }
    assert bytes(range(4)) == content[found["w"].begin : found["w"].end]
    assert data[4:12] == content[found["w.scale_weight"].begin : found["w.scale_weight"].end]
    assert b"abc" == content[found["new"].begin : found["new"].end]


def test_bf16_file_to_fp16(tmp_path: Path) -> None:
    """The same size: copied as it is."""
    source = raw(tmp_path / "in.safetensors", {"w": row("BF16", [2], 0, 4)}, b"\x80\x3f\x00\x40")
    done = run("convert", source, tmp_path / "out.safetensors", "--dtype", "fp16", "--json")

    assert (0, 1) == (done.json["converted"], done.json["kept"])


OVERFLOW = {
    "big": np.array([1e5, -7e4, 65519.9, 65520.0, np.inf], np.float32),
    "small": np.array([1.0, 2.0], np.float32),
}


def test_overflow(tmp_path: Path) -> None:
    """Finite numbers that would become infinite are counted for each tensor, and nothing is written."""
    done, target = converted(tmp_path, OVERFLOW, "--json")

    assert 1 == done.code
    assert "convert_overflow" == done.json["error"]["code"]
    assert (
        "3 finite numbers of in.safetensors become infinite in fp16: big (3)" == done.json["error"]["message"]
    )
    assert ["in.safetensors"] == [p.name for p in tmp_path.iterdir()]
    assert not target.exists()


def test_clamp(tmp_path: Path) -> None:
    """With --clamp they become the largest number there is; what was infinite stays so."""
    done, target = converted(tmp_path, OVERFLOW, "--clamp", "--json")

    assert 0 == done.code
    assert {"big": 3} == done.json["overflows"]
    assert [65504.0, -65504.0, 65504.0, 65504.0, np.inf] == load_file(target)["big"].tolist()


@pytest.mark.parametrize(
    ("value", "lost"),
    [(3.4028234e38, 1), (3.3895314e38, 0), (1e39, 1), (-3.4e38, 1)],
    ids=["max", "fits", "fp64", "minus"],
)
def test_bf16_overflow(tmp_path: Path, value: float, lost: int) -> None:
    """bf16 has the range of fp32, but rounding up at its very end leaves it."""
    done, target = converted(
        tmp_path, {"w": np.array([value, 1.0], np.float64)}, "--clamp", "--json", dtype="bf16"
    )

    assert lost == sum(done.json["overflows"].values())
    (tensor,) = read_header(target, "x.safetensors").tensors
    stored = np.frombuffer(target.read_bytes()[-tensor.bytes :], "<u2").astype("<u4") << 16
    assert np.isfinite(stored.view("<f4")).all()


def test_text(tmp_path: Path) -> None:
    """One line with both sizes."""
    done, target = converted(tmp_path, {"w": np.zeros(1000, np.float32)})

    assert f"{target.name}: 0.0 MB -> 0.0 MB, 1 tensors to fp16, 0 as they were" in done.out
