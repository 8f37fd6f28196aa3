"""Runs torch's operators on the simulated device and on the CPU, and prints what differs.

For test_simulated_device.py.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Callable
from typing import Any

import torch
import torch_npu
from torch.nn import functional

DEVICE = torch.device("npu", 0)
X = torch.randn(2, 4, 16, 16)
WEIGHT, BIAS = torch.randn(8, 4, 3, 3), torch.randn(8)

OPERATORS: dict[str, Callable[[torch.Tensor], Any]] = {
    "conv2d": lambda x: functional.conv2d(x, WEIGHT.to(x.device), BIAS.to(x.device), padding=1),
    "group_norm": lambda x: functional.group_norm(x, 2),
    "layer_norm": lambda x: functional.layer_norm(x, (16,)),
    "attention": lambda x: functional.scaled_dot_product_attention(x, x, x),
    "views": lambda x: x.view(2, -1)[:, ::3].transpose(0, 1).contiguous(),
    "chunk": lambda x: torch.cat([x, x], 1).chunk(2, 1)[1],
    "interpolate": lambda x: functional.interpolate(x, scale_factor=2),
    "mask": lambda x: x[x > 0],
    "sort": lambda x: x.sort()[0],
    "split": lambda x: torch.split(x, 2, 1)[0],
    "topk": lambda x: x.topk(3)[1],
    "in_place": lambda x: functional.silu(x.clone(), inplace=True),
    "dtypes": lambda x: x.half().to(torch.bfloat16).float() * 2,
    "fft": lambda x: torch.fft.rfft(x).abs(),
    "einsum": lambda x: torch.einsum("bchw,bdhw->bcd", x, x),
    "where": lambda x: torch.where(x > 0, x, 0.0),
    "cumsum": lambda x: x.cumsum(1),
    "unfold": lambda x: x.unfold(2, 4, 2),
    "expand": lambda x: x.expand(3, *x.shape),
    "half_matmul": lambda x: (x.half() @ x.half()).float(),
    "shared_view": lambda x: _through_a_view(x.clone()),
    "out": lambda x: torch.add(x, x, out=torch.empty(0, device=x.device)),
}


def _through_a_view(x: torch.Tensor) -> torch.Tensor:
    x[0].add_(1)
    return x


def _differs(operator: Callable[[torch.Tensor], Any]) -> str:
    here, there = operator(X), operator(X.to(DEVICE))
    if there.device.type != "npu":
        return f"it is on {there.device}"
    if here.shape != there.shape:
        return f"shape {there.shape} in place of {here.shape}"
    return "" if torch.allclose(here.float(), there.cpu().float(), atol=1e-3) else "other values"


def _raised(act: Callable[[], Any]) -> str:
    try:
        act()
    except Exception as error:  # noqa: BLE001 — it is what is asked for
        return f"{type(error).__name__}: {error}"
    return "nothing"


def main() -> None:
    with torch.inference_mode():
        found: dict[str, Any] = {"differ": {name: _differs(operator) for name, operator in OPERATORS.items()}}
        gc.collect()
        found["left"] = torch_npu.read("active")
        before = torch_npu.read("h2d_bytes")
        weight = torch.zeros(1000, 1000).to(DEVICE)
        found["copied"] = torch_npu.read("h2d_bytes") - before
        found["held"] = torch_npu.read("active")
        found["mixed"] = _raised(lambda: weight + torch.zeros(1000, 1000))
        found["too_large"] = _raised(lambda: torch.empty(17 << 30, dtype=torch.uint8, device=DEVICE))
        torch_npu.add("fail_allocs", 1)
        found["failing"] = [_raised(lambda: torch.zeros(9, device=DEVICE)) for _ in range(2)]
        torch_npu.add("fault", 1)
        found["dead"] = [
            _raised(lambda: weight + 1),
            _raised(weight.cpu),
            _raised(torch_npu.npu.synchronize),
        ]
    print(json.dumps(found))  # noqa: T201 — this is how it answers


if __name__ == "__main__":
    main()
