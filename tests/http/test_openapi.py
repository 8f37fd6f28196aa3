"""docs/openapi.yaml is true.

Requests made from it, right ones and wrong ones, get the answers that it promises.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from aiohttp import web
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error

from comfy_preload.core.state.snapshot import ModelState, Snapshot, Status
from tests.http.conftest import application
from tests.support.snapshots import OpenDoor, full, model, snapshot
from tools import http_doc

schema = schemathesis.openapi.from_path(Path(http_doc.SOURCE))
EXAMPLES = settings(
    max_examples=20,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
READY = snapshot(Status.READY, model("a"), model("b", ModelState.WARM))
LOADING = snapshot(Status.LOADING, model("a", ModelState.LOADING), model("b", ModelState.PENDING))


STATES: dict[str, tuple[Snapshot, OpenDoor]] = {
    "ready": (READY, OpenDoor("a", "b")),
    "loading": (LOADING, OpenDoor(settled=False)),
    "failed": (full(), OpenDoor("m", "n")),
}


@pytest.fixture(params=STATES.values(), ids=list(STATES))
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    """Serve that state from a thread, since schemathesis asks from this one.

    One server for all examples of a test.
    """
    now, door = request.param
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def do(work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, loop).result(30)

    runner = web.AppRunner(application(lambda: now, door))
    do(runner.setup())
    do(web.TCPSite(runner, "127.0.0.1", 0).start())
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    do(runner.cleanup())
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@schema.parametrize()  # pyright: ignore[reportUntypedFunctionDecorator]
@EXAMPLES
def test_promises(case: Any, url: str) -> None:
    """Status, headers and body of every answer are as written, in every state.

    503 is one of them, where it is written.
    """
    case.call_and_validate(base_url=url, excluded_checks=[not_a_server_error])
