"""What is believed of an entry that somebody else has written."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from comfy_preload.core.state.snapshot import ModelState, Status
from comfy_preload.registry.statement import (
    MAX_BYTES,
    MAX_MODELS,
    RefusedError,
    Statement,
    decode,
    encode,
    statement_of,
)
from tests.registry.replicas import NAME, held, replica
from tests.support.snapshots import model, snapshot


def reason(raw: bytes, key: str = "b") -> str:
    with pytest.raises(RefusedError) as refused:
        decode(raw, key=key)
    return refused.value.reason


def changed(**fields: Any) -> bytes:
    return json.dumps({**json.loads(encode(replica())), **fields}).encode()


def with_model(**fields: Any) -> bytes:
    return changed(models=[{**json.loads(encode(replica()))["models"][0], **fields}])


def test_round_trip() -> None:
    """An entry comes back as it was, whatever the model's name, and is plain ASCII in between."""
    written = replica("b", held(NAME))

    assert written == decode(encode(written), key="b")
    assert encode(written).isascii()


def test_of_a_snapshot() -> None:
    """Loaded models are reported, those on the device first; the others are not."""
    now = snapshot(
        Status.READY,
        model("moved", ModelState.EVICTED, bytes_on_device=0),
        model("failed", ModelState.FAILED),
        model("there", ModelState.RESIDENT),
        model("long" * 200, ModelState.RESIDENT),
        queue_remaining=3,
    )
    made = statement_of(now, {"there": "c1-1"}, id="a", instance="i", address="http://a", version="1")

    assert [("there", "c1-1", True), ("moved", None, False)] == [
        (m.name, m.content, m.on_device) for m in made.models
    ]
    assert (2, 3, True, "ready") == (made.models_total, made.queue, made.ready, made.status)


def test_worst_case() -> None:
    """However many models with however long names: what is written is never too large to be read."""
    now = snapshot(Status.READY, *(model("😀" * 495 + str(i)) for i in range(300)))
    made = encode(statement_of(now, {}, id="a", instance="i", address="http://a", version="1"))

    assert len(made) <= MAX_BYTES
    assert decode(made, key="a").models_total == 300


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        pytest.param(b"", "malformed", id="nothing"),
        pytest.param(b"\xff\xfe", "malformed", id="no-text"),
        pytest.param(b"[" * 100_000, "malformed", id="nested"),
        pytest.param(b"[]", "malformed", id="list"),
        pytest.param(b"{}", "malformed", id="empty"),
        pytest.param(b"x" * (MAX_BYTES + 1), "too_large", id="too-large"),
        pytest.param(changed(format=2, models="another thing"), "other_format", id="newer"),
        pytest.param(changed(id="c"), "malformed", id="another-id"),
        pytest.param(changed(address="javascript:alert(1)"), "malformed", id="address"),
        pytest.param(changed(address="http://user:secret@host"), "malformed", id="address-with-password"),
        pytest.param(changed(queue=-1), "malformed", id="queue-negative"),
        pytest.param(changed(queue=10**400), "malformed", id="queue-huge"),
        pytest.param(changed(queue=True), "malformed", id="queue-true"),
        pytest.param(changed(ready="yes"), "malformed", id="ready-text"),
        pytest.param(changed(updated=float("nan")), "malformed", id="time-nan"),
        pytest.param(changed(updated=10**400), "malformed", id="time-huge"),
        pytest.param(changed(models=[{}] * (MAX_MODELS + 1)), "malformed", id="models-many"),
        pytest.param(changed(models=["x"]), "malformed", id="model-text"),
        pytest.param(with_model(bytes=1 << 60), "malformed", id="bytes-absurd"),
        pytest.param(with_model(bytes=-5), "malformed", id="bytes-negative"),
        pytest.param(with_model(name="a\nb"), "malformed", id="name-with-line-break"),
        pytest.param(with_model(name=""), "malformed", id="name-empty"),
    ],
)
def test_refused(raw: bytes, expected: str) -> None:
    """What has a wrong type or an absurd size is not believed at all."""
    assert expected == reason(raw)


def test_more_fields() -> None:
    """A newer plugin with the same format may say more."""
    assert isinstance(decode(changed(mood="fine"), key="b"), Statement)


@given(
    some.binary(max_size=200)
    | some.recursive(some.none() | some.floats() | some.text(), some.lists).map(json.dumps)
)
def test_anything(raw: bytes | str) -> None:
    """Nothing but RefusedError comes of anything."""
    assert reason(raw if isinstance(raw, bytes) else raw.encode()) in {"malformed", "other_format"}


@pytest.mark.parametrize(("late", "expected"), [(-60.0, "future"), (60.0, "expired")])
def test_age(late: float, expected: str) -> None:
    """What is from the future or long ago does not count."""
    now = time.time()
    with pytest.raises(RefusedError) as refused:
        replica(updated=now - late).check_age(now)

    assert expected == refused.value.reason
