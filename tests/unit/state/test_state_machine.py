"""Whatever happens in whatever order, the answer stays true.

Hypothesis plays ComfyUI, the operator and bad luck.
"""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from comfy_preload.api import json_bodies as body
from comfy_preload.core.errors import problem
from comfy_preload.core.host import Placement
from comfy_preload.core.planning.call import LoaderCall
from comfy_preload.core.settings.entry import Entry
from comfy_preload.core.state.jobs import JOB_MOVES, Command, Job, Jobs, JobState
from comfy_preload.core.state.readiness import Readiness
from comfy_preload.core.state.residency import Residency
from comfy_preload.core.state.slot import Loaded, Slot, Stage
from comfy_preload.core.state.snapshot import MOVES, ModelState, Phase, Status

NAMES = ("a", "b", "c", "d")
REQUIRED = ("a", "b")
names = st.sampled_from(NAMES)
_UNFINISHED = (Stage.PENDING, Stage.READING, Stage.LOADING)


@dataclass
class Weights:
    """What ComfyUI keeps books of: how many of 100 bytes are on the device."""

    on_device: int = 0


class ReadinessMachine(RuleBasedStateMachine):
    """One preload from its start, and all that can happen to it."""

    def __init__(self) -> None:
        super().__init__()
        calls = [LoaderCall(Entry(name, "vae", "L", {}, name in REQUIRED)) for name in NAMES]
        self.residency = Residency(
            repair=lambda _: None, usable=lambda _: "", slots=tuple(Slot(c, 100) for c in calls)
        )
        self.readiness = Readiness(
            self.residency, lambda w: Placement(100, {"cuda:0": w.on_device}, dynamic=False)
        )
        self.fault_seen = self.drain_seen = False

    def slot(self, name: str) -> Slot:
        slot = self.residency.find(name)
        assert slot
        return slot

    # -- what happens -----------------------------------------------------------------------------

    @rule(to=st.sampled_from(Phase))
    def move(self, to: Phase) -> None:
        before = self.readiness.phase
        if to is Phase.SETTLED and any(slot.stage in _UNFINISHED for slot in self.residency.slots):
            return  # the preloader settles only when each model is loaded or has failed
        try:
            self.readiness.move(to)
        except ValueError:
            assert to not in MOVES[before]
        else:
            assert to in MOVES[before]

    @rule(name=names, stage=st.sampled_from([Stage.READING, Stage.LOADING]))
    def begin(self, name: str, stage: Stage) -> None:
        if self.slot(name).loaded is None and self.readiness.phase is Phase.LOADING:
            self.slot(name).stage = stage

    @rule(name=names)
    def load(self, name: str) -> None:
        slot = self.slot(name)
        slot.loaded, slot.stage, slot.problems = Loaded(Weights(), (), 1.0), Stage.LOADED, ()

    @rule(name=names)
    def fail(self, name: str) -> None:
        if self.slot(name).loaded is None:
            self.slot(name).fail(problem("file_empty", file=name))

    @rule(name=names)
    def release(self, name: str) -> None:
        if self.slot(name).loaded:
            self.slot(name).release()

    @rule(name=names, share=st.sampled_from([0, 50, 100]))
    def comfyui_moves_weights(self, name: str, share: int) -> None:
        if loaded := self.slot(name).loaded:
            loaded.outputs.on_device = share

    @rule()
    def look(self) -> None:
        self.readiness.look()

    @rule(
        words=st.sampled_from(
            ["CUDA error: misaligned address", "CUDA error: out of memory", "nothing of the kind"]
        )
    )
    def prompt_raises(self, words: str) -> None:
        self.readiness.blame(RuntimeError, words)
        self.fault_seen |= "misaligned" in words

    @rule()
    def time_is_over(self) -> None:
        if self.readiness.phase in (Phase.LOADING, Phase.WARMING):
            self.readiness.overdue_by(problem("timeout", expected="1"))

    @rule()
    def sigterm(self) -> None:
        self.readiness.drain()
        self.drain_seen = True

    # -- what is true all the time ----------------------------------------------------------------

    @invariant()
    def never_ready_without_what_is_required(self) -> None:
        now = self.readiness.snapshot()
        if now.serves:
            assert now.status in (Status.READY, Status.DEGRADED)
            assert Phase.SETTLED is self.readiness.phase
            assert all(row.state.loaded for row in now.models if row.required)

    @invariant()
    def faults_and_drains_latch(self) -> None:
        now = self.readiness.snapshot()
        assert now.alive is not self.fault_seen
        assert not (now.serves and (self.fault_seen or self.drain_seen))
        assert self.drain_seen is (now.status is Status.DRAINING)

    @invariant()
    def answer_can_be_told(self) -> None:
        now = self.readiness.snapshot()
        reported = body.everything(now)
        assert 0 <= reported["progress"]["fraction"] <= 1
        assert reported["models"]["total"] == len(NAMES)
        assert set(reported["failing"]) == {m.name for m in now.models if m.state is ModelState.FAILED}
        assert 1 <= body.retry_after(now) <= 60


class JobsMachine(RuleBasedStateMachine):
    """Orders come, run and end; none that is not over is ever forgotten."""

    def __init__(self) -> None:
        super().__init__()
        self.jobs = Jobs()
        self.open: dict[str, Job] = {}

    @rule(command=st.sampled_from(Command), model=st.sampled_from([None, "a"]), count=st.integers(1, 30))
    def order(self, command: Command, model: str | None, count: int) -> None:
        for _ in range(count):
            job = self.jobs.pending(command, model) or Job(command, model)
            if self.jobs.get(job.id) is None:
                self.jobs.add(job)
            self.open[job.id] = job

    @precondition(lambda self: self.open)
    @rule(data=st.data(), to=st.sampled_from(JobState))
    def go_on(self, data: st.DataObject, to: JobState) -> None:
        job = list(self.open.values())[data.draw(st.integers(0, len(self.open) - 1))]
        before = job.state
        try:
            job.move(to)
        except ValueError:
            assert to not in JOB_MOVES[before]
        if job.is_over:
            del self.open[job.id]

    @invariant()
    def nothing_is_lost(self) -> None:
        assert all(self.jobs.get(i) is job for i, job in self.open.items())
        assert len({(j.command, j.model) for j in self.open.values()}) == len(self.open)
        assert all((job.ended is not None) is job.is_over for job in self.jobs.all())


settings.register_profile("ci", derandomize=True, max_examples=60, stateful_step_count=40, deadline=None)
settings.load_profile("ci")
TestReadiness = ReadinessMachine.TestCase
TestJobs = JobsMachine.TestCase
