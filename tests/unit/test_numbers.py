"""Numbers and lists as log lines and answers have them."""

from __future__ import annotations

import pytest

from comfy_preload.core.text import counted, listed, summary


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 models"), (1, "1 model"), (2, "2 models"), (1020, "1,020 models")]
)
def test_counted(count: int, text: str) -> None:
    """One model, two models."""
    assert text == counted(count, "model")


@pytest.mark.parametrize(
    ("count", "end"), [(1, "n0"), (20, "n19"), (21, "n19 and 1 more"), (1040, "n19 and 1,020 more")]
)
def test_listed(count: int, end: str) -> None:
    """Of many names only the first are written, with how many there are besides."""
    assert listed(f"n{i}" for i in range(count)).endswith(end)
    assert "" == listed(())


def test_summary() -> None:
    """Each message once, the first ten of many."""
    assert "a; b" == summary(["a", "b", "a", "a"])
    assert "m9; and 3 more" == summary(f"m{i}" for i in range(13))[-14:]
