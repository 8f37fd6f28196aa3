"""Two reloads that overlap: each follows the settings file that it read itself, whatever the other finds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

import pytest

from comfy_preload.core.host import NOWHERE, GraphNode, HostFacts, Outputs, Placement, Watcher
from comfy_preload.core.machine.head_start import HeadStart
from comfy_preload.core.node_types import LoaderSpec
from comfy_preload.core.settings.document import parse
from comfy_preload.core.settings.validation import Settings, validate
from comfy_preload.core.state.jobs import Command, Job, JobState
from comfy_preload.core.state.snapshot import Phase, Status
from comfy_preload.core.state.startup import Startup
from comfy_preload.core.state.tally import Tally
from comfy_preload.preloader import Preloader
from tests.support.catalogue import Catalogue

GOOD = "on_error: serve\nmodels: [{vae: pixel_space}]"
BROKEN = "on_error: unready\nmodels: [{vae: pixel_space}]\nfoo: 1"


class OneThread(Catalogue):
    """A fake of the protocol `Host`, not of ComfyUI.

    Each job has run when `submit` returns, so the loop comes second.
    """

    async def call(self, spec: LoaderSpec, inputs: Mapping[str, Any], node: GraphNode) -> Outputs:  # noqa: ARG002 — of the protocol
        outputs = (object(),)
        self.watcher.keep(spec, inputs, "", outputs)
        return outputs

    def submit(self, job: Callable[[], Awaitable[None]], **_: Any) -> Future[None]:
        done: Future[None] = Future()
        coroutine: Any = job()
        with pytest.raises(StopIteration):
            coroutine.send(None)
        done.set_result(None)
        return done

    def watch(self, _spec: LoaderSpec, watcher: Watcher) -> Callable[[], None]:
        self.watcher = watcher
        return lambda: None

    def facts(self) -> HostFacts:
        return HostFacts("0", "0", "0", "cpu")

    def push(self, pushed: Sequence[Outputs], **_: Any) -> list[tuple[BaseException, ...]]:
        return [()] * len(pushed)

    def placement(self, _outputs: Outputs) -> Placement:
        return NOWHERE

    def __getattr__(self, name: str) -> Any:
        """Everything else does nothing and finds nothing."""
        return {"usable": lambda _: "", "free_device_memory": int, "queue_remaining": int}.get(name, _nothing)


def _nothing(*_: Any, **__: Any) -> None:
    return None


async def two_reloads(*texts: str, models: tuple[str | None, str | None]) -> tuple[Job, Job, Preloader]:
    """Order two reloads at once; each finds the next of these texts in the settings file."""
    files = iter(texts)

    def reread() -> Settings:
        return validate(parse(next(files)))

    host: Any = OneThread()
    preloader = Preloader(validate(parse(GOOD)), host, reread, HeadStart(), Tally(), startup=Startup())
    preloader.residency.reset(())
    preloader.readiness.move(Phase.SETTLED)
    first, second = (preloader.order(Command.RELOAD, model) for model in models)
    for _ in range(100):  # turns of the event loop
        await asyncio.sleep(0)
    assert first.is_over
    assert second.is_over
    return first, second, preloader


async def test_broken_settings_are_not_adopted() -> None:
    """The second finds a broken file and fails.

    The first keeps what it read, and does not adopt the other's.
    """
    first, second, preloader = await two_reloads(GOOD, BROKEN, models=(None, "pixel_space"))

    assert (JobState.DONE, JobState.FAILED) == (first.state, second.state)
    assert "serve" == preloader.settings.options.on_error
    assert () == preloader.settings.problems


async def test_one_model_adopts_nothing() -> None:
    """A reload of one model leaves the options of the file alone."""
    later = GOOD.replace("serve", "unready")
    first, second, preloader = await two_reloads(GOOD, later, models=(None, "pixel_space"))

    assert (JobState.DONE, JobState.DONE) == (first.state, second.state)
    assert "serve" == preloader.settings.options.on_error
    assert Status.READY is preloader.readiness.snapshot().status
